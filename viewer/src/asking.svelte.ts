// What is asked of the models behind the page, and what comes back.

import { Cancelled, type Client, type ModelInfo, type Progress, type Request } from "./client";
import type { RawDocument, RawLook } from "./document";
import { joined } from "./lenses";
import type { Page } from "./page.svelte";

const STARTING: Progress = {
  state: "queued", place: 0, stage: "", done: 0, total: 0, seconds_left: null, message: null,
}; // prettier-ignore

export class Asking {
  models: ModelInfo[] = $state.raw([]);
  request: Request | null = $state(null);
  progress: Progress | null = $state.raw(null);
  /** The model of what is shown. */
  model: string | null = $state(null);
  #answered: Request | null = null; // the request that made what is shown
  #last: { wanted: Request; found: RawDocument } | null = null;
  #former: Request | null = null;
  #stop: AbortController | null = null;
  readonly #origins = new WeakMap<RawLook["settings"], Request>(); // the request of each look

  constructor(
    readonly page: Page,
    readonly client: Client,
  ) {}

  async load(): Promise<void> {
    this.models = await this.client.models();
    if (this.models.length) this.request = await this.client.defaults();
  }

  cancel(): void {
    this.#stop?.abort();
  }

  async run(): Promise<void> {
    if (!this.request) return;
    this.#forget(this.request);
    const wanted = $state.snapshot(this.request) as Request;
    await this.#awaited(wanted, (found) => this.#take(wanted, found));
  }

  /** What was asked last is shown again; at first it is asked for. */
  async again(): Promise<void> {
    if (this.#last) this.#take(this.#last.wanted, this.#last.found);
    else await this.run();
  }

  /** Something else is shown: positions are no longer those of a prompt that was asked about. */
  leave(): void {
    this.cancel();
    this.#answered = null;
  }

  #take(wanted: Request, found: RawDocument): void {
    this.model = wanted.model;
    this.#answered = wanted;
    this.#last = { wanted, found };
    for (const look of found.looks) this.#origins.set(look.settings, wanted);
    this.page.present(found);
  }

  /** Whether the lens of a restored cell can be asked for: this page made the look. */
  made(settings: RawLook["settings"]): boolean {
    return this.#origins.has(settings);
  }

  /** The lens of the run with a cell of the trace put back: a look of lenses alone, so that the
   * trace is not made again; the new one joins the look whose cell it is. */
  async restore(cell: string): Promise<void> {
    const { page } = this;
    const settings = page.view?.look.raw.settings;
    const origin = settings && this.#origins.get(settings);
    if (!settings || !origin) return;
    const alone = { kinds: [], neurons: false, attention: false, heads: false, corrupted_lens: false };
    await this.#awaited({ ...origin, ...alone, restored_cells: [cell] }, (found) => {
      if (page.kept) page.kept = joined(page.kept, found, settings).document;
      const { document, grid } = joined(page.view!.doc.raw, found, settings);
      page.show(document);
      if (grid) page.view!.choose("left", grid);
    });
  }

  /** A token as the focus; false where no prompt was asked about. */
  focus(token: number): boolean {
    return this.#about({ focus: token, answer: null });
  }

  /** A span of tokens as the subject; false where no prompt was asked about. */
  subject(start: number, end: number): boolean {
    const span: [number, number] = [start, end];
    return this.#about({ subject: [], subject_tokens: [span], counterfactual: null, replace: [] });
  }

  /** Positions are those of the prompt that is shown, whatever was typed since. */
  #about(changes: Partial<Request>): boolean {
    if (!this.request || !this.#answered) return false;
    const { model, prompt } = this.#answered;
    this.request = { ...this.request, model, prompt, ...changes };
    void this.run();
    return true;
  }

  /** What was said of the prompt before, by text or position, is dropped unless it still fits. */
  #forget(asked: Request): void {
    const before = this.#former;
    if (before && before.prompt !== asked.prompt) {
      const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
      const stale = (text: string) =>
        (before.subject ?? []).includes(text) && !asked.prompt.includes(text);
      asked.subject = (asked.subject ?? []).filter((text) => !stale(text));
      if (same(asked.subject_tokens, before.subject_tokens)) asked.subject_tokens = [];
      if (asked.counterfactual === before.counterfactual) asked.counterfactual = null;
      const fits = typeof asked.focus === "string" && asked.prompt.includes(asked.focus);
      if (asked.focus === before.focus && !fits) asked.focus = null;
    }
    this.#former = $state.snapshot(asked) as Request;
  }

  /** What was asked last is what is awaited; anything before it is cancelled. */
  async #awaited(wanted: Request, take: (found: RawDocument) => void): Promise<void> {
    this.cancel();
    const own = (this.#stop = new AbortController());
    this.page.error = null;
    this.progress = STARTING;
    const tell = (told: Progress) => {
      if (this.#stop === own) this.progress = told;
    };
    try {
      const found = await this.client.look(wanted, tell, own.signal);
      if (this.#stop === own && !own.signal.aborted) take(found);
    } catch (problem) {
      if (this.#stop === own && !(problem instanceof Cancelled)) this.page.fail(problem);
    } finally {
      if (this.#stop === own) {
        this.progress = null;
        this.#stop = null;
      }
    }
  }
}
