// Signing in at the identity provider: authorization code with PKCE; the server exchanges the code.
import { access, fetchJson } from "./rest.js";

const ADDRESS = "dashboard/sign-in.json";
const KEPT = "bmad.sign-in";

const text = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const random = () => text(crypto.getRandomValues(new Uint8Array(32)));

/** Leave for the provider; it sends the browser back here. */
export async function leaveForProvider(project) {
  const offer = await fetchJson(ADDRESS);
  if (new URL(offer.redirect_uri).origin !== location.origin) {
    // What is kept in this tab belongs to an origin, and the provider sends people to one only.
    throw new Error(`Open ${offer.redirect_uri} and sign in there: the identity provider knows that address.`);
  }
  if (!crypto.subtle) throw new Error("Signing in needs HTTPS. Paste an access token instead.");
  const [verifier, state] = [random(), random()];
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  sessionStorage.setItem(KEPT, JSON.stringify({ verifier, state, project, hash: location.hash }));
  const { endpoint, ...asked } = offer;
  const address = new URL(endpoint);
  const more = { response_type: "code", state, code_challenge: text(new Uint8Array(digest)), code_challenge_method: "S256" };
  for (const [name, value] of Object.entries({ ...asked, ...more })) address.searchParams.set(name, value);
  location.assign(address);
}

/** Take the code that the provider sent back; gives why it did not work, or nothing. */
export async function returnFromProvider() {
  const told = new URLSearchParams(location.search);
  if (!told.has("state")) return "";
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
  sessionStorage.removeItem(KEPT);
  // The code is good once, and is taken out of the address before anything else.
  history.replaceState(null, "", `${location.pathname}${kept.hash ?? ""}`);
  if (told.get("state") !== kept.state) return "That was not asked for from this tab. Sign in again.";
  if (!told.has("code")) return `The identity provider refused: ${told.get("error_description") ?? told.get("error")}.`;
  try {
    const { token } = await fetchJson(ADDRESS, { verb: "POST", body: { code: told.get("code"), verifier: kept.verifier } });
    access.keep(token, kept.project);
    return "";
  } catch (error) {
    return error.message;
  }
}
