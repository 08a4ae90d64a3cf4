"""What the database's own function for keys returns: PostgreSQL 18 has one, and before it two values are put together."""

FIRST_MAJOR = 18
BUILT_IN = "uuidv7()"
# The same layout, of the clock and a random UUID.
PUT_TOGETHER = """encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING
                substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid"""
