// What is on the page: a document, or two that are compared, and what went wrong.

import { ServerError } from "./client";
import { decode, type RawDocument } from "./document";
import { View } from "./view.svelte";

export interface Problem {
  readonly message: string;
  readonly field: string | null;
}

export class Page {
  view: View | null = $state.raw(null);
  error: Problem | null = $state.raw(null);
  /** A of a comparison. */
  kept: RawDocument | null = $state.raw(null);

  constructor(readonly expose?: (view: View) => void) {}

  show(document: RawDocument): void {
    const decoded = decode(document);
    if (this.view) this.view.show(decoded);
    else {
      this.view = new View(decoded);
      this.expose?.(this.view);
    }
  }

  /** What was asked for: beside A, where one is kept. */
  present(found: RawDocument): void {
    this.show(this.kept ? this.#compared(this.kept, found) : found);
    if (this.view && this.kept) this.view.choice = 1;
  }

  /** Keep what is shown as A; or, where one is kept, let it go. */
  keep(): void {
    const { view } = this;
    if (!view) return;
    const { raw } = view.doc;
    if (this.kept) {
      this.kept = null;
      const last = raw.looks.slice(-1);
      this.show({ ...raw, looks: last.map((one) => ({ ...one, name: one.name.replace(/^B: /, "") })) });
    } else {
      const chosen = typeof view.choice === "number" ? view.choice : 0;
      this.kept = { ...raw, looks: raw.looks.slice(chosen, chosen + 1) };
    }
  }

  fail(problem: unknown): void {
    const field = problem instanceof ServerError ? problem.field : null;
    this.error = { message: problem instanceof Error ? problem.message : String(problem), field };
  }

  /** A token as the focus: a stored look that has it, or else its column is pinned. */
  focus(token: number): void {
    const { view } = this;
    if (!view) return;
    this.error = null;
    const stored = view.doc.looks.findIndex((look) => look.focus === token);
    if (stored >= 0) view.choice = stored;
    view.hovered = null;
    const row = view.pinned?.row ?? view.look.rows.length - 1;
    view.unpin();
    view.pin({ row, token, space: "" });
  }

  /** A span of tokens as the subject: only a stored look can have it. */
  subject(start: number, end: number): void {
    const { view } = this;
    if (!view) return;
    const has = (inside: boolean, token: number) => inside === (token >= start && token < end);
    const stored = view.doc.looks.findIndex((look) => look.subject.every(has));
    this.error = null;
    if (stored >= 0) view.choice = stored;
    else this.fail("this subject is not stored in this page; `twinlens serve MODEL` computes any");
  }

  /** Both as one document; where the tokens differ, the new one alone. */
  #compared(a: RawDocument, b: RawDocument): RawDocument {
    const [first] = a.looks;
    const [second] = b.looks;
    const same =
      a.tokens.ids.length === b.tokens.ids.length &&
      a.tokens.ids.every((id, i) => id === b.tokens.ids[i]);
    if (!first || !second || !same || first.rows.length !== second.rows.length) {
      this.fail("A was kept for other tokens: it cannot be compared with this prompt");
      this.kept = null;
      return b;
    }
    const looks = [{ ...first, name: `A: ${first.name}` }, { ...second, name: `B: ${second.name}` }];
    return { ...b, looks };
  }
}
