"""CATALOG: every operation there is, feature by feature."""

from bmad_mcp.operation import Operation
from bmad_mcp.tasks.operations import OPERATIONS as TASKS

CATALOG: tuple[Operation, ...] = (*TASKS,)
BY_NAME = {operation.name: operation for operation in CATALOG}
