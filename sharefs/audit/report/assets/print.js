// What goes on paper: the findings opened, the disagreements as a table, and who can read what as sentences.

const PAPER = { findings: 500, cells: 1000, mailboxes: 400, names: 40 };

function paperOf(findings, access) {
  const parts = [make("h2", {}, "Findings")];
  const chosen = findings.chosen().slice(0, PAPER.findings);
  if (!chosen.length) parts.push(make("p", {}, "None."));
  for (const finding of chosen) {
    parts.push(make("article", {}, make("h3", {}, `${finding.severity}: `, named(finding.title, 600)), finding.subject && make("p", { class: "soft" }, named(finding.subject, 300)),
      finding.evidence.length > 0 && make("pre", {}, shortened(finding.evidence.join("\n"), 4000)), finding.why && make("p", {}, finding.why), finding.remedy && make("p", {}, finding.remedy),
      ...finding.commands.map(([command]) => make("pre", {}, shortened(command, 2000)))));
  }
  const rows = disagreements(access, PAPER.cells).map(([mailbox, user, cell]) => make("tr", {}, make("td", {}, named(access.mailboxes[mailbox], 120)), make("td", {}, named(access.users[user], 80)),
    make("td", {}, access.written(cell.acl)), make("td", {}, access.written(cell.effective)), make("td", {}, cell.shell ? access.written(cell.shell) : "")));
  if (rows.length) parts.push(make("h2", {}, "Where the ACL and the kernel disagree"), table(["Mailbox", "User", "The ACL grants", "Works", "A shell can"], rows));
  const { mailboxes: shared } = access.touched(access.picked((cell) => readsHow(cell) !== null), true);
  const wide = [...access.mailboxes.keys()].filter((mailbox) => shared[mailbox]);
  const readers = wide.slice(0, PAPER.mailboxes).map((mailbox) => {
    const names = [...access.users.keys()].map((user) => [user, readsHow(access.at(mailbox, user))]).filter(([, how]) => how !== null).map(([user, how]) => shortened(access.users[user], 80) + how);
    const text = names.length > PAPER.names ? `${names.slice(0, PAPER.names).join(", ")} and ${number(names.length - PAPER.names)} more` : names.join(", ");
    return make("tr", {}, make("td", {}, named(access.mailboxes[mailbox], 120)), make("td", {}, text));
  });
  if (access.mailboxes.length) parts.push(make("h2", {}, "Who can read what"));
  if (readers.length) parts.push(table(["Mailbox", "Readers"], readers));
  const alone = access.mailboxes.length - wide.length;
  if (alone) parts.push(make("p", { class: "soft" }, `${readers.length ? "And " : ""}${counted(alone, "mailbox")} that nobody but the owner can read.`));
  const left = [[findings.chosen().length - PAPER.findings, "findings"], [wide.length - PAPER.mailboxes, "shared mailboxes"]].filter(([more]) => more > 0);
  if (left.length) parts.push(make("p", { class: "soft" }, `Left out on paper: ${left.map(([more, noun]) => `${number(more)} ${noun}`).join(", ")}.`));
  return parts;
}

// A leak lets somebody read as well, and what is not known may; null: neither reads.
function readsHow(cell) {
  if (cell.level >= 2) return "";
  return cell.leaked ? " (with a shell)" : cell.unknown ? " (not known)" : null;
}

function table(heads, rows) {
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", {}, head)))), make("tbody", {}, ...rows));
}

function disagreements(access, limit) {
  const wanted = access.picked((cell) => cell.blocked || cell.leaked), found = [];
  for (let at = 0; at < access.cells.length && found.length < limit; at++) {
    if (wanted[access.cells[at]]) found.push([Math.floor(at / access.width), at % access.width, access.palette[access.cells[at]]]);
  }
  return found;
}
