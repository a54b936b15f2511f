// Settings of an app: read their values, show the relevant ones, show errors, reset.

export class Settings {
  constructor(form) {
    this.form = form;
    this.defaults = JSON.parse(form.dataset.defaults);
    this.rows = [...form.querySelectorAll("[data-setting]")];
    for (const range of form.querySelectorAll("[data-range-for]")) this.#adoptRange(range);
    for (const row of this.rows) this.#adoptAuto(row);
    this.showRelevant();
  }

  /** Return every setting by name, as the API accepts it. */
  values() {
    return Object.fromEntries(this.rows.map((row) => [row.dataset.setting, this.#read(row)]));
  }

  /** Return the settings that differ from their default, as text, for the query string. */
  changed() {
    const texts = this.rows.map((row) => [row.dataset.setting, String(this.#read(row) ?? "")]);
    return Object.fromEntries(texts.filter(([name, text]) => text !== this.defaults[name]));
  }

  set(name, value) {
    const row = this.rows.find((candidate) => candidate.dataset.setting === name);
    const control = row && this.#control(row);
    if (!control) return;
    const auto = this.#auto(row);
    if (auto) auto.checked = value === "auto";
    if (auto) this.#follow(row);
    if (auto?.checked) return;
    if (control.type === "checkbox") control.checked = value === "true" || value === true;
    else control.value = value;
    const range = row.querySelector("[data-range-for]");
    if (range) range.value = value;
  }

  reset() {
    for (const [name, value] of Object.entries(this.defaults)) this.set(name, value);
    this.showRelevant();
  }

  isShown(name) {
    const row = this.rows.find((candidate) => candidate.dataset.setting === name);
    return Boolean(row) && !row.hidden;
  }

  /** Hide settings that have no effect. Without JavaScript all of them are visible. */
  showRelevant() {
    const values = this.values();
    for (const row of this.rows) {
      if (!row.dataset.showIf) continue;
      const conditions = Object.entries(JSON.parse(row.dataset.showIf));
      row.hidden = !conditions.every(([name, allowed]) => allowed.includes(values[name]));
    }
    for (const more of this.form.querySelectorAll("[data-more-settings]")) {
      more.hidden = !more.querySelector("[data-setting]:not([hidden])");
    }
  }

  showErrors(errors) {
    for (const place of this.form.querySelectorAll("[data-error-for]")) {
      const text = errors[place.dataset.errorFor] || "";
      if (place.textContent.trim() !== text) place.textContent = text;
      place.classList.toggle("d-block", Boolean(text));
      const row = place.closest("[data-setting]");
      const control = this.#control(row);
      control?.classList.toggle("is-invalid", Boolean(text));
      if (text) control?.setAttribute("aria-invalid", "true");
      else control?.removeAttribute("aria-invalid");
      const more = row.closest("[data-more-settings]");
      if (text && more) more.open = true;
    }
  }

  #control(row) {
    return row.querySelector(`[name="${row.dataset.setting}"]:not([type="hidden"])`);
  }

  /** The checkbox of a number that may be "auto". */
  #auto(row) {
    return row.querySelector("[data-auto]");
  }

  #read(row) {
    const control = this.#control(row);
    if (this.#auto(row)?.checked) return "auto";
    if (row.dataset.kind === "toggle") return control.checked;
    if (row.dataset.kind === "slider") return control.value === "" ? "" : Number(control.value);
    if (row.dataset.kind === "folder") return control.value || null;
    return control.value;
  }

  #adoptRange(range) {
    const number = document.getElementById(range.dataset.rangeFor);
    range.hidden = false;
    range.addEventListener("input", () => (number.value = range.value));
    number.addEventListener("input", () => (range.value = number.value));
  }

  // Without scripts the number has no bounds: one out of them would stop the form where "auto" hides it.
  #adoptAuto(row) {
    const auto = this.#auto(row);
    if (!auto) return;
    const range = row.querySelector("[data-range-for]");
    const number = this.#control(row);
    for (const bound of ["min", "max", "step"]) number[bound] = range[bound];
    auto.addEventListener("input", () => this.#follow(row));
    this.#follow(row);
  }

  #follow(row) {
    this.#control(row).disabled = this.#auto(row).checked;
  }
}
