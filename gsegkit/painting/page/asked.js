// ---- what is in the page, and what is asked of the server that sent it ----------------------------------------------

const TOKEN = "X-Gsegkit-Token"; // it comes in the address behind the #, which no server and no log sees

async function asked(path, options) {
  const answer = await fetch(path, { ...options, cache: "no-store", referrerPolicy: "no-referrer" })
    .catch(() => { throw new Error("the server does not answer; start it again"); });
  if (answer.ok) return answer;
  const said = (await answer.text()).slice(0, 300).trim();
  throw new Error(said || `the server refused (${answer.status})`);
}

/** The key to the server, out of the page's address. */
function keyOf({ hash }) {
  if (hash.length < 2) throw new Error("the address lacks its key: open the one that gsegkit printed");
  return hash.slice(1);
}

/** The JSON of a block in the page; null where there is none. */
function inside(id) {
  const block = document.getElementById(id);
  return block && JSON.parse(block.textContent);
}

/** Show that a page cannot begin. */
function cannot(what, error) {
  const box = document.createElement("p");
  box.className = "note warn";
  box.textContent = `This page cannot ${what}: ${error.message}.`;
  document.querySelector("header").append(box);
}
