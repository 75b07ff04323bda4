// The findings: filtered, the worst first, each with evidence and remedy.

const SEVERITIES = [["critical", "Critical"], ["warning", "Warnings"], ["notice", "Notices"]];

class Findings {
  // show(mailbox, user): go to the matrix.
  constructor(findings, access, show) {
    this.all = findings;
    this.access = access;
    this.show = show;
    this.severity = "all";
    this.texts = findings.map((f) => [f.rule, f.title, f.subject, f.mailbox, f.user, ...f.evidence].join("\n").toLowerCase());
    const of = (severity) => findings.filter((finding) => finding.severity === severity).length;
    this.mark = choices($("severities"), [["all", "All"], ...SEVERITIES.filter(([name]) => of(name)).map(([name, label]) => [name, `${label} ${number(of(name))}`])], "all", (value) => { this.severity = value; this.render(); });
    $("severities").hidden = !findings.length;
    const rules = new Map();
    for (const finding of findings) rules.set(finding.rule, (rules.get(finding.rule) || 0) + 1);
    $("rules").append(make("option", { value: "" }, "All checks"), ...[...rules].sort().map(([rule, times]) => make("option", { value: rule }, `${rule} (${number(times)})`)));
    $("rules").hidden = rules.size < 2;
    $("findings-search").hidden = !findings.length;
    $("rules").addEventListener("change", () => this.render());
    whenTyping($("findings-search"), () => this.render());
    this.render();
  }

  filter(severity) {
    this.severity = severity;
    this.mark(severity);
    this.clearSearch();
  }

  clearSearch() {
    $("findings-search").value = $("rules").value = "";
    this.render();
  }

  chosen() {
    const wanted = $("findings-search").value.trim().toLowerCase(), rule = $("rules").value;
    return this.all.filter((finding, at) => (this.severity === "all" || finding.severity === this.severity) && (!rule || finding.rule === rule) && (!wanted || this.texts[at].includes(wanted)));
  }

  render() {
    const box = $("findings-list"), found = this.chosen();
    $("findings-result").textContent = found.length < this.all.length ? `${number(found.length)} of ${counted(this.all.length, "finding")}` : "";
    box.replaceChildren();
    if (!this.all.length && !this.access.mailboxes.length) {
      box.append(emptyState("Nothing was looked at", "The audit saw no mailbox, so it cannot say that all is well. Are the users listed, and does somebody have mail?"));
      return;
    }
    if (!this.all.length) {
      box.append(emptyState("Nothing to report", "Every check passed: what the ACLs promise, the kernel keeps, and nothing is open that should not be.", null, true));
      return;
    }
    if (!found.length) {
      box.append(emptyState("No finding matches", "Try fewer words, or another severity.", make("button", { type: "button", class: "link", onclick: () => this.filter("all") }, "Show all findings")));
      return;
    }
    for (const [severity, label] of SEVERITIES) {
      const some = found.filter((finding) => finding.severity === severity);
      if (!some.length) continue;
      const list = make("div", { class: "findings" });
      box.append(make("h2", { class: "group-title" }, label, make("span", { class: "count" }, number(some.length))), make("div", {}, list));
      fillSlowly(list, some, (finding) => this.line(finding), 100);
    }
  }

  line(finding) {
    const details = make("details", { class: `finding ${finding.severity}` },
      make("summary", {}, make("span", { class: "dot", "aria-hidden": "true" }), make("span", { class: "title" }, make("span", { class: "unseen" }, `${finding.severity}: `), named(finding.title, 600)),
        finding.subject && make("span", { class: "subject" }, named(finding.subject, 600)), make("span", { class: "rule" }, named(finding.rule, 60))));
    details.addEventListener("toggle", () => { if (details.open && !details.querySelector(".body")) details.append(this.body(finding)); });
    return details;
  }

  body(finding) {
    const part = (title, ...content) => make("div", {}, make("h3", {}, title), ...content);
    const mailbox = this.access.mailboxes.indexOf(finding.mailbox), user = this.access.users.indexOf(finding.user);
    return make("div", { class: "body" },
      finding.subject.length > 80 && part("About", make("p", { class: "long" }, named(finding.subject, 20000))),
      finding.evidence.length > 0 && part("Evidence", make("pre", {}, finding.evidence.join("\n"))),
      finding.why && part("Why it matters", make("p", { class: "long" }, finding.why)),
      (finding.remedy || finding.commands.length > 0) && part("What to do", finding.remedy && make("p", { class: "long" }, finding.remedy), ...finding.commands.map(commandBox)),
      (mailbox >= 0 || user >= 0) && make("button", { type: "button", class: "link", onclick: () => this.show(mailbox, user) }, "Show in the matrix"));
  }
}

function commandBox([command, exact]) {
  if (!exact) return make("div", {}, make("pre", {}, command), make("p", { class: "sub" }, "The name has characters that cannot be shown; escapes stand for them here."));
  const button = make("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(command);
      button.textContent = "Copied";
    } catch {
      // Files opened from disk may not always write the clipboard: select it for the user to copy.
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  } }, "Copy");
  const code = make("pre", {}, command);
  return make("div", { class: "command" }, code, button);
}
