// The tree of permissions.  Only the lines that are seen exist as elements.

const LINE_HEIGHT = 30;

class Tree {
  constructor(nodes) {
    this.nodes = nodes;
    this.box = $("tree-view");
    this.space = this.box.querySelector(".tree-space");
    this.parents = [];
    this.inner = new Uint8Array(nodes.length);
    this.open = new Uint8Array(nodes.length);
    const path = [];
    nodes.forEach((node, at) => {
      path.length = node.depth;
      const parent = path.length ? path[path.length - 1] : -1;
      this.parents.push(parent);
      if (parent >= 0) this.inner[parent] = 1;
      path.push(at);
    });
    this.texts = nodes.map((node) => [node.name, node.owner, node.group, node.mode, node.acl].join("\n").toLowerCase());
    nodes.forEach((node, at) => { if (node.depth < 1 || nodes.length < 200) this.open[at] = 1; });
    nodes.forEach((node, at) => { if (node.problem) for (let up = this.parents[at]; up >= 0; up = this.parents[up]) this.open[up] = 1; });
    this.onlyProblems = false;
    this.active = 0;
    this.redraw = oncePerFrame(() => this.draw());
    this.box.addEventListener("scroll", this.redraw, { passive: true });
    this.box.addEventListener("keydown", (event) => this.onKey(event));
    this.box.addEventListener("click", (event) => this.onClick(event));
    new ResizeObserver(this.redraw).observe(this.box);
    whenTyping($("tree-search"), () => this.refresh());
    $("tree-open").addEventListener("click", () => { this.open.fill(1); this.refresh(); });
    $("tree-close").addEventListener("click", () => { this.open.fill(0); this.refresh(); });
    $("tree-problems").addEventListener("click", () => {
      this.onlyProblems = !this.onlyProblems;
      $("tree-problems").setAttribute("aria-pressed", String(this.onlyProblems));
      this.refresh();
    });
    this.refresh();
  }

  // Which lines are there: those found and the way to them, or those below what is open.
  refresh() {
    const wanted = $("tree-search").value.trim().toLowerCase(), { nodes } = this;
    const searching = Boolean(wanted || this.onlyProblems);
    const keep = new Uint8Array(nodes.length);
    let found = 0;
    if (searching) {
      nodes.forEach((node, at) => {
        if ((wanted && !this.texts[at].includes(wanted)) || (this.onlyProblems && !node.problem)) return;
        found++;
        for (let up = at; up >= 0 && !keep[up]; up = this.parents[up]) keep[up] = 1;
      });
    }
    this.searching = searching;
    this.lines = [];
    let closed = Infinity;
    nodes.forEach((node, at) => {
      if (searching) {
        if (keep[at]) this.lines.push(at);
        return;
      }
      if (node.depth > closed) return;
      closed = this.inner[at] && !this.open[at] ? node.depth : Infinity;
      this.lines.push(at);
    });
    this.active = Math.min(this.active, Math.max(this.lines.length - 1, 0));
    $("tree-result").textContent = searching ? `${number(found)} of ${number(nodes.length)} directories` : "";
    this.box.hidden = !this.lines.length;
    document.querySelector(".tree-head").hidden = !this.lines.length;
    $("tree").querySelector(".tools").hidden = !nodes.length;
    this.box.style.height = this.lines.length * LINE_HEIGHT + 4 < innerHeight * 0.7 ? `${this.lines.length * LINE_HEIGHT + 4}px` : "";
    $("tree-empty").replaceChildren(...(this.lines.length ? [] : [nodes.length
      ? emptyState("No directory matches", "Names, owners, groups and modes are searched.", make("button", { type: "button", class: "link", onclick: () => this.clear() }, "Show all directories"))
      : emptyState("No directories", "The audit looked at no mail directories.")]));
    this.space.style.height = `${this.lines.length * LINE_HEIGHT}px`;
    this.redraw();
  }

  clear() {
    $("tree-search").value = "";
    this.onlyProblems = false;
    $("tree-problems").setAttribute("aria-pressed", "false");
    this.refresh();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / LINE_HEIGHT) - 5);
    const last = Math.min(this.lines.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / LINE_HEIGHT) + 5);
    const rows = [];
    for (let line = first; line < last; line++) rows.push(this.row(line));
    this.space.replaceChildren(...rows);
    if (this.lines.length && this.active >= first && this.active < last) this.box.setAttribute("aria-activedescendant", `tree-${this.lines[this.active]}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  row(line) {
    const at = this.lines[line], node = this.nodes[at], inner = this.inner[at], open = this.open[at] || this.searching;
    const first = make("span", {}, make("span", { class: "twisty", "aria-hidden": "true" }, inner ? (open ? "▾" : "▸") : ""), 
      node.problem && make("span", { class: `mark ${node.problem}`, title: `${node.problem}: see the findings` }), named(node.name, 300), node.problem && make("span", { class: "unseen" }, `, ${node.problem}`));
    first.style.paddingLeft = `${Math.min(node.depth, 12) * 1.05}rem`;
    const row = make("div", {
      class: line === this.active ? "tree-row active" : "tree-row", role: "treeitem", id: `tree-${at}`, "data-line": line, "aria-level": node.depth + 1, "aria-expanded": inner ? String(Boolean(open)) : false,
      "aria-selected": String(line === this.active),
    }, first, make("span", { class: /s/i.test(node.mode) ? "mono setgid" : "mono", title: node.acl || undefined }, node.acl ? `${node.mode}+` : node.mode),
      make("span", { class: "soft" }, named(node.owner, 80)), make("span", { class: "soft" }, named(node.group, 80)), make("span", { class: "soft", title: shortened([node.rule, node.acl].filter(Boolean).join("\n"), 600) }, shortened(node.rule || node.acl, 200)));
    row.style.transform = `translateY(${line * LINE_HEIGHT}px)`;
    return row;
  }

  onClick(event) {
    const row = event.target.closest(".tree-row");
    if (!row) return;
    this.active = Number(row.dataset.line);
    if (event.target.classList.contains("twisty") || event.detail === 2) this.toggle();
    else this.redraw();
  }

  toggle(open) {
    const at = this.lines[this.active];
    if (!this.inner[at] || this.searching) return;
    this.open[at] = open === undefined ? 1 - this.open[at] : open;
    this.refresh();
  }

  onKey(event) {
    if (event.altKey || event.metaKey || event.ctrlKey || !this.lines.length) return;
    const page = Math.max(1, Math.floor(this.box.clientHeight / LINE_HEIGHT) - 1), at = this.lines[this.active];
    const isOpen = this.open[at] || this.searching;
    const to = { ArrowUp: this.active - 1, ArrowDown: this.active + 1, PageUp: this.active - page, PageDown: this.active + page, Home: 0, End: this.lines.length - 1 }[event.key];
    if (to !== undefined) this.moveTo(to);
    else if (event.key === "ArrowRight") this.inner[at] && !isOpen ? this.toggle(1) : this.inner[at] && this.moveTo(this.active + 1);
    else if (event.key === "ArrowLeft") {
      if (this.inner[at] && this.open[at] && !this.searching) this.toggle(0);
      else if (this.parents[at] >= 0) this.moveTo(this.lines.indexOf(this.parents[at]));
    } else if (event.key === "Enter" || event.key === " ") this.toggle();
    else return;
    event.preventDefault();
  }

  moveTo(line) {
    this.active = Math.max(0, Math.min(line, this.lines.length - 1));
    const y = this.active * LINE_HEIGHT, high = this.box.clientHeight;
    if (y < this.box.scrollTop) this.box.scrollTop = y;
    else if (y + LINE_HEIGHT > this.box.scrollTop + high) this.box.scrollTop = y + LINE_HEIGHT - high;
    this.redraw();
  }
}
