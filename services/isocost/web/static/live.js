// Keeps a page as the campaign is: asks for it again every few seconds and puts in place what changed.

const EVERY_MS = 2000;
const live = document.getElementById("live");
let tag = "";

function put(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(part.id);
    if (!next || next.innerHTML === part.dataset.seen) continue;
    const seen = next.innerHTML;
    // What somebody has opened stays open.
    const open = [...part.querySelectorAll("details")].map((details) => details.open);
    next.querySelectorAll("details").forEach((details, index) => { details.open = open[index] ?? false; });
    part.replaceChildren(...document.importNode(next, true).childNodes);
    part.dataset.seen = seen;
  }
}

async function look() {
  try {
    const answer = await fetch(location.href, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (answer.redirected) { location.reload(); return; }
    if (answer.status === 200) {
      tag = answer.headers.get("ETag") ?? "";
      put(await answer.text());
    }
    const here = answer.ok || answer.status === 304;
    live.textContent = here ? "live" : "not up to date: the service does not answer";
    live.classList.toggle("stale", !here);
  } catch {
    live.textContent = "not up to date: the service does not answer";
    live.classList.add("stale");
  }
}

async function keepLooking() {
  if (!document.hidden) await look();
  setTimeout(keepLooking, EVERY_MS);
}

keepLooking();
