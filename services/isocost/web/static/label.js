// Labelling by keyboard. An answer that is stored is paid and never changes, so the last one is held until the next is
// given. Answers on their way are kept in the browser's storage: nothing is lost when the service or this page goes away,
// and as each is known by its lease and item, it is paid once however often it is sent.

const BATCH = 10;
const HEARTBEAT_MS = 40_000;
const RETRY_MS = [500, 1000, 2000, 5000];

const page = document.getElementById("labelling");
const { campaign, source, who, letters } = page.dataset;
const nChoices = Number(page.dataset.nChoices);
const needsEnter = nChoices > 9;
const words = [...document.querySelectorAll("#choices button")].map((button) => button.lastChild.textContent);
const storageKey = `isocost ${JSON.stringify([campaign, source, who])}`;
const byId = (id) => document.getElementById(id);

let lease = null; // { lease_id, items }
let place = 0; // of the item that is asked, in the lease
let held = null; // { item_id, choice }: what was done last, and may be taken back; choice is null where it was skipped
let sending = []; // answers on their way: { lease_id, item_id, choice }
let pumping = null; // the promise of what is on its way
let typed = "";
let nAnswered = Number(byId("n-answered").textContent.replaceAll(",", "")); // stored and paid, of this annotator
let nHere = 0; // of them, since the page was opened
let nWaiting = 0; // for this annotator, those in the lease included
let nWanted = 0; // labels that the open orders await, and those given here
let price = "";
let busy = false;
let ended = false;
const skipped = new Set();

class Refused extends Error {}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `page-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

async function call(path, body, options = {}) {
  const request = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(path, { ...request, headers: { "Content-Type": "application/json" }, ...options });
  if (answer.status === 401) {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname)}`);
    throw new Refused("nobody is signed in");
  }
  const content = await answer.json();
  if (answer.ok) return content;
  const error = content.error ?? { message: answer.statusText };
  // The service is away, or asks to wait: the same call may succeed later.
  if (answer.status === 503 || answer.status === 429) throw new Error(error.message);
  throw new Refused(error.message);
}

// Makes a call until it is answered; says so while it is not.
async function insist(path, body) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      const content = await call(path, body);
      if (attempt) notice("");
      return content;
    } catch (error) {
      if (error instanceof Refused) throw error;
      const kept = sending.length ? ` ${sending.length} answers are kept in this browser.` : "";
      notice(`The service does not answer; trying again.${kept}`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]));
    }
  }
}

function keep() {
  const answers = held !== null && held.choice !== null ? [...sending, held] : sending;
  localStorage.setItem(storageKey, JSON.stringify({ answers, lease_id: lease ? lease.lease_id : null }));
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

function show() {
  const item = lease.items[place];
  byId("question").replaceChildren(
    ...item.question.map((part) => {
      const span = document.createElement("span");
      span.className = part.field === undefined ? "words" : "field";
      span.textContent = part.text;
      return span;
    }),
  );
  byId("question").scrollTop = 0;
  byId("question").dataset.item = item.item_id;
  const said = held === null ? "" : held.choice === null ? "skipped" : words[held.choice].trim();
  byId("held").textContent = said ? `Last: ${said}` : "";
  byId("undo").disabled = held === null;
  typed = "";
  showTyped();
  byId("asking").hidden = false;
  byId("done").hidden = true;
  showCounts();
}

function showTyped() {
  if (needsEnter) byId("typed").textContent = typed;
}

function showCounts() {
  byId("n-answered").textContent = nAnswered.toLocaleString("en");
  byId("n-waiting").textContent = nWaiting.toLocaleString("en");
  byId("earned").textContent = nHere && price ? `${nHere.toLocaleString("en")} now, at ${price} each` : "";
  byId("progress").style.width = nWanted ? `${Math.min((100 * nHere) / nWanted, 100)}%` : "100%";
}

async function readStanding() {
  const query = new URLSearchParams({ campaign_id: campaign, source_id: source });
  const standing = await insist(`/api/standing?${query}`);
  nWaiting = standing.n_waiting + (lease ? lease.items.length - place : 0);
  nWanted = nHere + standing.n_awaited;
  byId("money").textContent = standing.money ?? "";
  price = standing.unit_price ?? "";
  showCounts();
  return standing;
}

// Sends what is on its way, while labelling goes on; resolves when all of it is answered.
function flush() {
  keep();
  pumping ??= pump().finally(() => { pumping = null; });
  return pumping;
}

// What is refused is not wanted any more, and said.
async function pump() {
  while (sending.length) {
    const batch = sending.slice(0, 100);
    const { answers, money } = await insist("/api/answers", { answers: batch, n_choices: nChoices, campaign_id: campaign });
    sending = sending.slice(batch.length);
    byId("money").textContent = money ?? "";
    for (const answer of answers) {
      nAnswered += answer.n_accepted;
      nHere += answer.n_accepted;
      if (answer.refused) notice(`One answer was not taken and not paid: ${answer.refused}`);
    }
    keep();
  }
  showCounts();
}

function storeHeld() {
  if (held !== null && held.choice !== null) sending.push(held);
  held = null;
  keep();
}

async function giveBack() {
  if (!lease) return;
  await insist("/api/answers", { answers: [], n_choices: nChoices, lease_id: lease.lease_id, release: true });
  lease = null;
  keep();
}

async function nextBatch() {
  storeHeld();
  await flush();
  await giveBack();
  const leased = await insist("/api/lease", {
    request_id: newId(),
    campaign_id: campaign,
    source_id: source,
    // Skipped items come first again, and are passed over: ask for as many more.
    n_items: Math.min(BATCH + skipped.size, 1000),
  });
  if (leased.items.length) {
    lease = { lease_id: leased.lease_id, items: leased.items.filter((item) => !skipped.has(item.item_id)) };
    place = 0;
    keep();
  }
  const standing = await readStanding();
  if (lease && lease.items.length) show();
  else await finish(standing, Boolean(lease));
}

async function finish(standing, onlySkipped) {
  await giveBack();
  byId("asking").hidden = true;
  byId("done").hidden = false;
  byId("done-title").textContent = ended ? "Finished" : "Nothing waits for you";
  const others = `${standing.n_awaited.toLocaleString("en")} labels are still awaited: they are in others' hands, or on items that you have answered.`;
  byId("done-text").textContent = ended
    ? "Everything that you answered is stored, and the rest is given back."
    : onlySkipped
      ? "Only items that you skipped are left; they are given back."
      : standing.n_awaited
        ? others
        : "Every label that was asked for is there. Thank you.";
  byId("again").focus();
}

// The service hands out no more: the campaign is finished, say.
function stopped(reason) {
  byId("asking").hidden = true;
  byId("done").hidden = false;
  byId("done-title").textContent = "Labelling has stopped";
  byId("done-text").textContent = reason;
}

// One thing at a time, in sequence: keys that come meanwhile wait for nothing and are dropped.
async function exclusively(work) {
  if (busy) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    stopped(error.message);
  } finally {
    busy = false;
  }
}

async function advance(choice) {
  const item = lease.items[place];
  if (held !== null && held.choice !== null) sending.push(held);
  held = { lease_id: lease.lease_id, item_id: item.item_id, choice };
  if (choice === null) skipped.add(item.item_id);
  keep();
  place += 1;
  nWaiting -= 1;
  notice("");
  if (place === lease.items.length) {
    await nextBatch();
  } else {
    show();
    flush().catch((error) => notice(error.message));
  }
}

function undo() {
  if (held === null || place === 0) {
    notice("Nothing to undo: what is stored cannot be changed.");
    return;
  }
  skipped.delete(held.item_id);
  held = null;
  place -= 1;
  nWaiting += 1;
  keep();
  show();
}

async function quit() {
  ended = true;
  storeHeld();
  await flush();
  await finish(await readStanding(), false);
  ended = false;
}

function choiceOf(key) {
  if (/^[0-9]+$/.test(key)) return Number(key) >= 1 && Number(key) <= nChoices ? Number(key) - 1 : null;
  const index = letters ? letters.split(" ").indexOf(key.toLowerCase()) : -1;
  return index >= 0 ? index : null;
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || byId("asking").hidden) return;
  const key = event.key.toLowerCase();
  if (key === "u") return exclusively(async () => undo());
  if (key === "s") return exclusively(() => advance(null));
  if (key === "q") return exclusively(quit);
  if (needsEnter) {
    if (/^[0-9]$/.test(key)) typed = (typed + key).slice(-3);
    else if (key === "backspace") typed = typed.slice(0, -1);
    else if (key === "enter" && typed) {
      event.preventDefault();
      const choice = choiceOf(typed);
      typed = "";
      if (choice === null) notice("There is no choice with this number.");
      else exclusively(() => advance(choice));
    }
    showTyped();
    return undefined;
  }
  const choice = key.length === 1 ? choiceOf(key) : null;
  if (choice === null) return undefined;
  event.preventDefault();
  return exclusively(() => advance(choice));
}

async function beat() {
  if (!lease) return;
  try {
    await call("/api/extend", { request_id: newId(), lease_id: lease.lease_id });
  } catch (error) {
    // The lease has ended: what is answered goes now, while its item may still be free, and others are leased.
    if (error instanceof Refused) await exclusively(nextBatch);
  }
}

// The page goes away: what is held is stored and the rest given back, as far as a page that goes away can. What does not
// arrive stays in the browser's storage.
function leave() {
  storeHeld();
  if (!lease && !sending.length) return;
  const body = { answers: sending, n_choices: nChoices, release: true, ...(lease ? { lease_id: lease.lease_id } : {}) };
  fetch("/api/answers", {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, keepalive: true,
  });
  lease = null;
}

// What a page that could not leave in order has kept: answers are sent, and its items given back.
async function takeUp() {
  const kept = JSON.parse(localStorage.getItem(storageKey) ?? "null");
  if (kept === null) return;
  sending = kept.answers;
  await flush();
  lease = kept.lease_id ? { lease_id: kept.lease_id, items: [] } : null;
  try {
    await giveBack();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    lease = null;
  }
}

async function start() {
  document.addEventListener("keydown", press);
  for (const button of document.querySelectorAll("#choices button")) {
    button.addEventListener("click", () => {
      button.blur();
      exclusively(() => advance(Number(button.dataset.choice)));
    });
  }
  byId("undo").addEventListener("click", () => exclusively(async () => undo()));
  byId("skip").addEventListener("click", () => exclusively(() => advance(null)));
  byId("quit").addEventListener("click", () => exclusively(quit));
  byId("again").addEventListener("click", () => { skipped.clear(); exclusively(nextBatch); });
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  setInterval(beat, HEARTBEAT_MS);
  await exclusively(async () => {
    await takeUp();
    await nextBatch();
  });
}

// Two tabs of one annotator would lease apart and mix what they keep. A page that is being left holds the lock for a moment
// longer; without encryption, beyond this machine, browsers have no locks.
if (navigator.locks) {
  navigator.locks
    .request(storageKey, { signal: AbortSignal.timeout(3000) }, async () => {
      await start();
      await new Promise(() => {});
    })
    .catch(() => notice("This campaign is open in another tab of yours; go on there, or close it and reload this page."));
} else {
  start();
}
