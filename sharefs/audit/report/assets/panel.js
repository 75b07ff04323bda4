// Beside the matrix: all about one cell, one mailbox or one user.

class Panel {
  constructor(access, choose) {
    this.access = access;
    this.choose = choose;
    this.box = $("panel");
    this.back = null;
  }

  close() {
    if (this.box.hidden) return false;
    this.box.hidden = true;
    (this.back || $("grid")).focus({ preventScroll: true });
    return true;
  }

  // Either is -1 for a whole row or column.
  open(mailbox, user) {
    this.back = document.activeElement === document.body ? $("grid") : this.box.contains(document.activeElement) ? this.back : document.activeElement;
    const parts = mailbox < 0 ? this.ofUser(user) : user < 0 ? this.ofMailbox(mailbox) : this.ofCell(mailbox, user);
    this.box.replaceChildren(...parts.filter(Boolean));
    for (const list of this.box.querySelectorAll("[data-lines]")) fillSlowly(list, list.lines, list.line, MANY);
    this.box.hidden = false;
    this.box.scrollTop = 0;
  }

  head(title, sub) {
    return make("div", {}, make("div", { class: "panel-head" }, make("h2", {}, named(title, 12000)),
      make("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => this.close() }, "✕")), sub && make("p", { class: "sub" }, sub));
  }

  about(mailbox) {
    const { access } = this, owner = access.owners[mailbox];
    const path = access.paths[mailbox];
    const parts = [owner >= 0 ? make("span", {}, "Owner ", named(access.users[owner])) : "Nobody's own"];
    if (path) parts.push(make("br"), make("code", {}, named(path, 12000)));
    return make("span", {}, ...parts);
  }

  ofCell(mailbox, user) {
    const { access } = this, cell = access.at(mailbox, user);
    const parts = [this.head(access.users[user], make("span", {}, "and ", make("button", { type: "button", class: "link", onclick: () => this.choose(mailbox, -1) }, named(access.mailboxes[mailbox], 60))))];
    if (cell.unknown) parts.push(make("p", { class: "verdict warn" }, "The audit could not find out."));
    else {
      if (cell.leaked) parts.push(make("p", { class: "verdict bad" }, `Leak: with a shell this user can ${words(cell.leaked, access)}, although the ACL does not allow it.`));
      if (cell.blocked) parts.push(make("p", { class: "verdict warn" }, `The ACL lets this user ${words(cell.blocked, access)}, but the kernel refuses.`));
      if (!cell.leaked && !cell.blocked) parts.push(make("p", { class: "verdict" }, cell.effective ? `ACL and kernel agree: ${LEVELS[cell.level]}.` : "ACL and kernel agree: no access."));
    }
    const note = access.note(mailbox, user);
    if (note) parts.push(make("h3", {}, "Why"), make("p", { class: "sub" }, named(note, 12000)));
    if (!cell.unknown) parts.push(this.table(cell));
    return parts;
  }

  // The server is asked about what the ACL grants; the shell where it can do more than that.
  table(cell) {
    const login = Boolean(cell.shell);
    const mark = (mask, bit) => make("td", { class: mask & bit ? "yes" : "no" }, make("span", { "aria-hidden": "true" }, mask & bit ? "✓" : "–"), make("span", { class: "unseen" }, mask & bit ? "yes" : "no"));
    const rows = [...this.access.letters].map((letter, number) => {
      const bit = 1 << number, kind = cell.leaked & bit ? "bad" : cell.blocked & bit ? "warn" : false;
      return make("tr", { class: kind }, make("th", { scope: "row" }, make("code", {}, letter), LETTER_WORDS[letter]), mark(cell.acl, bit), cell.acl & bit ? mark(cell.kernel, bit) : make("td"), login ? mark(cell.shell, bit) : null);
    });
    return make("table", { class: "rights" },
      make("thead", {}, make("tr", {}, make("th", {}, make("span", { class: "unseen" }, "Right")), make("th", { scope: "col" }, "ACL"), make("th", { scope: "col" }, "Server"), login ? make("th", { scope: "col" }, "Shell") : null)),
      make("tbody", {}, ...rows));
  }

  ofMailbox(mailbox) {
    const { access } = this;
    const users = [...access.users.keys()];
    return [this.head(access.mailboxes[mailbox], this.about(mailbox)),
      ...this.lists(users.map((user) => [mailbox, user]), (_, user) => access.users[user], "user", "Nobody has access.")];
  }

  ofUser(user) {
    const { access } = this;
    const sub = access.logins[user] ? "Has a login shell: what the kernel allows, this user can do without the mail server." : "Reads mail only through the mail server.";
    return [this.head(access.users[user], sub),
      ...this.lists([...access.mailboxes.keys()].map((mailbox) => [mailbox, user]), (mailbox) => access.mailboxes[mailbox], "mailbox", "No mailbox is open to this user.")];
  }

  // Cells sorted into leaks, refusals and what works, the greatest access first.
  lists(pairs, nameOf, noun, none) {
    const { access } = this;
    const of = (test) => pairs.filter(([mailbox, user]) => test(access.at(mailbox, user)));
    const level = ([mailbox, user]) => access.at(mailbox, user).level;
    const groups = [
      ["Leaks", of((cell) => cell.leaked), (cell) => [cell.leaked, "bad"]],
      ["Granted, but refused by the kernel", of((cell) => cell.blocked), (cell) => [cell.blocked, "warn"]],
      ["Works", of((cell) => cell.effective).sort((one, other) => level(other) - level(one)), (cell) => [cell.effective, ""]],
      ["Not known", of((cell) => cell.unknown), () => [0, ""]],
    ].filter(([, cells]) => cells.length);
    if (!groups.length) return [make("p", { class: "verdict" }, none)];
    return groups.flatMap(([title, cells, shownMask]) => {
      const list = make("ul", { class: "people", "data-lines": true });
      list.lines = cells;
      list.line = ([mailbox, user]) => {
        const [mask, kind] = shownMask(access.at(mailbox, user));
        return make("li", {}, make("button", { type: "button", onclick: () => this.choose(mailbox, user) }, named(nameOf(mailbox, user), 200), make("span", { class: `mono ${kind}` }, access.written(mask))));
      };
      return [make("h3", {}, `${title} · ${counted(cells.length, noun)}`), make("div", {}, list)];
    });
  }
}

function words(mask, access) {
  const all = [...access.letters].filter((_, bit) => mask & (1 << bit)).map((letter) => LETTER_WORDS[letter]);
  return all.length > 1 ? `${all.slice(0, -1).join(", ")} and ${all[all.length - 1]}` : all.join("");
}
