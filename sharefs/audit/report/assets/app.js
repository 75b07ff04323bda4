// Joins the parts: tabs, filters of the matrix, colours, keys, paper.

const FILTERS = [
  ["all", "All", () => true],
  ["shared", "Shared", (cell) => cell.effective || cell.leaked || cell.blocked || cell.unknown],
  ["differ", "Disagreements", (cell) => cell.leaked || cell.blocked],
  ["leaked", "Leaks", (cell) => cell.leaked],
  ["blocked", "Cannot work", (cell) => cell.blocked],
];
const TABS = ["findings", "access", "tree"];

async function start() {
  const data = JSON.parse($("data").textContent);
  const size = data.users.length * data.mailboxes.length * data.octets;
  const octets = await inflate(octetsOf($("cells").textContent), size);
  $("cells").remove();
  const cells = data.octets === 1 ? octets : new Uint16Array(octets.buffer, octets.byteOffset, size / 2);
  const access = new Access(data, cells);
  const wholes = Object.fromEntries(FILTERS.map(([name, , test]) => [name, access.touched(access.picked(test), name === "shared")]));
  let filter = wholes.shared.total ? "shared" : "all"; // what is one's own is no news

  const panel = new Panel(access, choose);
  const grid = new Grid(access, choose);
  const findings = new Findings(data.findings, access, showInMatrix);
  new Tree(data.tree);

  function choose(mailbox, user) {
    panel.open(mailbox, user);
    if (mailbox >= 0 && user >= 0) grid.reveal(mailbox, user);
  }

  function showInMatrix(mailbox, user) {
    filterMatrix("all", "", "");
    openTab("access");
    if (mailbox >= 0) grid.reveal(mailbox, user);
    panel.open(mailbox, user);
    $("grid").focus({ preventScroll: true });
  }

  // -- the matrix: which rows and columns -------------------------------------------------

  const markFilter = choices($("cell-filter"), FILTERS.filter(([name]) => name === "all" || wholes[name].total).map(([name, label]) => [name, name === "all" ? label : `${label} ${number(wholes[name].total)}`]),
    filter, (value) => { filter = value; refresh(); });
  const rowTexts = data.mailboxes.map((name, at) => `${name}\n${data.paths[at]}\n${data.owners[at] >= 0 ? data.users[data.owners[at]] : ""}`.toLowerCase());
  const columnTexts = data.users.map((name) => name.toLowerCase());

  function refresh() {
    const wanted = $("mailbox-search").value.trim().toLowerCase(), user = $("user-search").value.trim().toLowerCase();
    const { mailboxes, users } = wholes[filter];
    const rows = [...data.mailboxes.keys()].filter((at) => (filter === "all" || mailboxes[at]) && (!wanted || rowTexts[at].includes(wanted)));
    const columns = [...data.users.keys()].filter((at) => (filter === "all" || users[at]) && (!user || columnTexts[at].includes(user)));
    const some = rows.length > 0 && columns.length > 0, nothing = !data.mailboxes.length || !data.users.length;
    $("access").querySelector(".matrix").hidden = !some;
    $("access").querySelector(".tools").hidden = nothing;
    $("access-result").textContent = some && (rows.length < data.mailboxes.length || columns.length < data.users.length)
      ? `${number(rows.length)} of ${counted(data.mailboxes.length, "mailbox")}, ${number(columns.length)} of ${counted(data.users.length, "user")}` : "";
    $("access-empty").replaceChildren(...(some ? [] : [nothing
      ? emptyState("No mailboxes yet", "The audit saw no user or no mailbox. Once somebody has mail, this is where you see who can read it.")
      : emptyState("Nothing matches", "No mailbox or no user has this in its name.", make("button", { type: "button", class: "link", onclick: () => filterMatrix("all", "", "") }, "Show the whole matrix"))]));
    grid.show(rows, columns);
  }

  function filterMatrix(value, mailbox, user) {
    filter = value;
    markFilter(value);
    $("mailbox-search").value = mailbox;
    $("user-search").value = user;
    refresh();
  }

  whenTyping($("mailbox-search"), refresh);
  whenTyping($("user-search"), refresh);

  // -- tabs -----------------------------------------------------------------------------------

  function openTab(name, first) {
    for (const tab of TABS) {
      const button = $(`tab-${tab}`);
      button.setAttribute("aria-selected", String(tab === name));
      button.tabIndex = tab === name ? 0 : -1;
      $(tab).hidden = tab !== name;
    }
    if (name !== "access") $("panel").hidden = true;
    if (name === "access") grid.measure();
    history.replaceState(null, "", `#${name}`);
    // On a phone the head of the page would fill the screen.
    if (!first && innerWidth < 640) scrollTo(0, scrollY + $("main").getBoundingClientRect().top - tabbar.offsetHeight);
  }

  const tabbar = document.querySelector(".tabs");
  tabbar.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) openTab(tab.id.slice(4));
  });
  tabbar.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = TABS.findIndex((name) => !$(name).hidden), next = TABS[(at + step + TABS.length) % TABS.length];
    openTab(next);
    $(`tab-${next}`).focus();
  });
  addEventListener("hashchange", () => { if (TABS.includes(location.hash.slice(1))) openTab(location.hash.slice(1)); });

  // -- the head of the page -------------------------------------------------------------------

  $("host").textContent = data.host ? ` · ${shortened(data.host, 120)}` : "";
  $("facts").replaceChildren(make("span", {}, shortened(data.facts, 400)));
  const tile = (value, label, kind, action) => make("li", { class: kind }, make("button", { type: "button", onclick: action }, make("b", {}, number(value)), make("span", {}, label)));
  const critical = data.findings.filter((finding) => finding.severity === "critical").length;
  const toMatrix = (name) => () => { filterMatrix(wholes[name].total ? name : "all", "", ""); openTab("access"); };
  $("tiles").append(
    tile(wholes.leaked.total, "leaks: open without an ACL", wholes.leaked.total ? "bad" : "good", toMatrix("leaked")),
    tile(wholes.blocked.total, "granted, but cannot work", wholes.blocked.total ? "warn" : "good", toMatrix("blocked")),
    tile(critical, "critical findings", critical ? "bad" : "good", () => { findings.filter(critical ? "critical" : "all"); openTab("findings"); }),
    tile(data.findings.length - critical, "other findings", "", () => { findings.filter("all"); openTab("findings"); }),
    tile(data.mailboxes.length, `mailboxes, ${counted(data.users.length, "user")}`, "", toMatrix("all")));
  const counts = [data.findings.length, null, data.tree.length];
  TABS.forEach((name, at) => { if (counts[at] !== null) $(`tab-${name}`).querySelector(".count").textContent = number(counts[at]); });
  for (const note of data.notes) document.querySelector(".top").append(make("p", { class: "banner" }, named(note, 600)));
  $("made").textContent = data.made;

  // -- colours, legend, paper -----------------------------------------------------------------

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const THEMES = [["auto", "◐", "as the system has them"], ["light", "○", "light"], ["dark", "●", "dark"]];
  let theme = 0;

  function paintTheme() {
    const [name, sign, label] = THEMES[theme];
    document.documentElement.dataset.theme = name === "auto" ? (dark.matches ? "dark" : "light") : name;
    $("theme").textContent = sign;
    $("theme").setAttribute("aria-label", `Colours: ${label}`);
    $("theme").title = `Colours: ${label}`;
    grid.restyle();
    paintLegend();
  }

  function paintLegend() {
    const kind = (level, more) => ({ level, blocked: 0, leaked: 0, unknown: false, ...more });
    const scale = Math.min(devicePixelRatio || 1, 3);
    const lines = [[null, "the owner"], [kind(1), LEVELS[1]], [kind(2), LEVELS[2]], [kind(3), LEVELS[3]], [kind(4), LEVELS[4]],
      [kind(0, { blocked: 1 }), "granted, but the kernel refuses"], [kind(0, { leaked: 1 }), "leak: the kernel allows more than the ACL"]];
    if (access.palette.some((cell) => cell.unknown)) lines.push([kind(0, { unknown: true }), "not known"]);
    $("legend").replaceChildren(...lines.map(([cell, label]) => {
      const tile = cell ? paintTile(cell, grid.colour, scale, grid.font || "sans-serif") : paintOwn(grid.colour, scale);
      tile.style.width = tile.style.height = `${CELL}px`;
      tile.setAttribute("aria-hidden", "true");
      return make("li", {}, tile, label);
    }));
  }

  $("theme").addEventListener("click", () => { theme = (theme + 1) % THEMES.length; paintTheme(); });
  dark.addEventListener("change", paintTheme);
  addEventListener("beforeprint", () => { $("print").replaceChildren(...paperOf(findings, access)); });
  addEventListener("afterprint", () => { $("print").replaceChildren(); });

  // -- keys -----------------------------------------------------------------------------------

  $("help-button").addEventListener("click", () => $("help").showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || $("help").open) return;
    const typing = event.target.matches("input, select");
    if (event.key === "Escape") {
      if (typing && event.target.value) return;
      if (panel.close()) event.preventDefault();
      else if (typing) event.target.blur();
      return;
    }
    if (typing) return;
    const tab = TABS[Number(event.key) - 1];
    if (tab) {
      openTab(tab);
      (tab === "access" ? $("grid") : tab === "tree" ? $("tree-view") : $("main")).focus({ preventScroll: true });
    } else if (event.key === "/") {
      const open = TABS.find((name) => !$(name).hidden);
      $(open).querySelector("input").focus();
    } else if (event.key === "?") $("help").showModal();
    else return;
    event.preventDefault();
  });

  refresh();
  paintTheme();
  openTab(TABS.includes(location.hash.slice(1)) ? location.hash.slice(1) : data.findings.length ? "findings" : "access", true);
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  document.querySelector(".top").append(make("p", { class: "banner" }, `This report cannot be shown: ${error.message}`));
  throw error;
});
