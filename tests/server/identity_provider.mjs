// A real identity provider (npm oidc-provider) for the tests: node identity_provider.mjs MODULE RESOURCE
// It prints its issuer as the first line; a line on stdin rotates its keys.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [module, resource] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(module).href);
const key = () => ({
  ...generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" }),
  kid: randomUUID(),
  use: "sig",
  alg: "RS256",
});
const scopes = "bmad:read bmad:write";
const client = (id, scope) => ({
  client_id: id,
  client_secret: `secret-of-${id}`,
  grant_types: ["client_credentials"],
  redirect_uris: [],
  response_types: [],
  token_endpoint_auth_method: "client_secret_basic",
  scope,
});

// The dashboard: people sign in, on any port of this machine, as programs on a desktop do.
const dashboard = {
  client_id: "dashboard",
  application_type: "native",
  grant_types: ["authorization_code"],
  response_types: ["code"],
  redirect_uris: ["http://127.0.0.1/"],
  token_endpoint_auth_method: "none",
  scope: scopes,
};

let current;
const keys = [key()];
const server = createServer((request, response) => current(request, response));
const renew = () => {
  const provider = new Provider(`http://127.0.0.1:${server.address().port}`, {
    clients: [client("writer", scopes), client("reader", "bmad:read"), client("stranger", scopes), dashboard],
    scopes: scopes.split(" "),
    jwks: { keys },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, indicator) => ({
          scope: scopes,
          audience: indicator,
          accessTokenFormat: "jwt",
          accessTokenTTL: 300,
          jwt: { sign: { alg: "RS256" } },
        }),
      },
    },
  });
  current = provider.callback();
};
server.listen(0, "127.0.0.1", () => {
  renew();
  console.log(`http://127.0.0.1:${server.address().port}`);
});
createInterface({ input: process.stdin }).on("line", () => {
  keys.unshift(key());
  renew();
  console.log("rotated");
});
