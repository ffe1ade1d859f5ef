// Browsing runs: which one, its facts as they come, and what of it is open.

import type { Asking } from "./asking.svelte";
import type { Client, FactRow, RunInfo } from "./client";
import type { RawDocument } from "./document";
import { ALL, address, missing, PAGE, pagesOf, type Query, requestOf } from "./facts";
import type { Page } from "./page.svelte";

export class Browsing {
  runs: RunInfo[] = $state.raw([]);
  /** Whether a run is shown, not a prompt that was asked about. */
  active = $state(false);
  chosen: string | null = $state(null);
  query: Query = $state.raw(ALL);
  /** The facts that the query keeps: how many, and those that came already, by page. */
  total = $state(0);
  pages: ReadonlyMap<number, readonly FactRow[]> = $state.raw(new Map());
  /** The fact that is open (null: the average), and its place in the list, where it is in it. */
  open: FactRow | null = $state.raw(null);
  position: number | null = $state(null);
  /** What is open is awaited: what is shown is not yet it; or it never came. */
  busy = $state(false);
  failed = $state(false);
  run: RunInfo | null = $derived(this.runs.find(({ name }) => name === this.chosen) ?? null);
  /** Why nothing can be shown of the open fact. */
  missing: string | null = $derived(this.open && missing(this.open));
  #coming = new Map<number, Promise<void>>(); // pages that came or are on their way
  #list = 0; // which list it is; answers for another one are dropped
  #turn = 0; // which document was asked for last

  constructor(
    readonly page: Page,
    readonly client: Client,
    readonly asking: Asking,
  ) {}

  async load(): Promise<void> {
    this.runs = await this.client.runs();
  }

  /** Show a run: its facts, and their average. */
  async choose(name: string): Promise<void> {
    this.chosen = name;
    this.query = ALL;
    this.total = 0;
    await this.enter();
  }

  /** Back to the run that was chosen. */
  async enter(): Promise<void> {
    this.active = true;
    this.asking.leave();
    this.#relist();
    await this.average();
  }

  leave(): void {
    this.active = this.busy = this.failed = false;
    this.#turn++;
  }

  /** Read the folder anew: how far it is, its facts, and what is open. */
  async refresh(): Promise<void> {
    await this.#trying(async () => {
      await this.load();
      const { open, position } = this;
      this.#relist();
      if (!open) await this.average();
      else this.position = position;
    });
  }

  /** Other facts, or in another order; what is open stays open. */
  ask(query: Query): void {
    this.query = query;
    this.position = null;
    this.#relist();
  }

  row(position: number): FactRow | null {
    return this.pages.get(Math.floor(position / PAGE))?.[position % PAGE] ?? null;
  }

  /** See to it that some rows come. */
  need(range: readonly [number, number]): void {
    for (const page of pagesOf(range)) void this.#page(page);
  }

  async average(): Promise<void> {
    this.open = this.position = null;
    const name = this.chosen;
    if (name) await this.#present(() => this.client.average(name));
  }

  /** Open the fact at a place of the list. */
  async openAt(position: number): Promise<void> {
    const name = this.chosen;
    if (!name || position < 0 || position >= this.total) return;
    this.position = position;
    const turn = ++this.#turn;
    await this.#page(Math.floor(position / PAGE));
    const row = this.row(position);
    if (turn !== this.#turn || !row) return;
    this.open = row;
    this.busy = this.failed = false;
    if (row.status === "measured")
      await this.#present(() => this.client.fact(name, row.fact));
  }

  next(): Promise<void> {
    return this.openAt((this.position ?? -1) + 1);
  }

  previous(): Promise<void> {
    return this.openAt((this.position ?? 1) - 1);
  }

  /** Ask the model that is served about the prompt of the open fact, as the run did. */
  async look(): Promise<void> {
    const { asking, open, page } = this;
    const served = this.run?.served;
    const settings = page.view?.doc.raw.looks.at(-1)?.settings[0];
    if (!open || !served || !settings || !asking.request) return;
    this.leave();
    asking.request = requestOf(asking.request, served, open, settings);
    await asking.run();
  }

  #relist(): void {
    this.#list++;
    this.#coming = new Map();
    this.pages = new Map();
    void this.#page(0);
  }

  #page(page: number): Promise<void> {
    const known = this.#coming.get(page);
    if (known) return known;
    const coming = this.#fetched(page);
    this.#coming.set(page, coming);
    return coming;
  }

  async #fetched(page: number): Promise<void> {
    const [name, list] = [this.chosen, this.#list];
    if (!name) return;
    await this.#trying(async () => {
      const found = await this.client.facts(name, address(this.query, page));
      if (list !== this.#list) return;
      this.total = found.total;
      this.pages = new Map(this.pages).set(page, found.facts);
      const at = found.facts.findIndex(({ fact }) => fact === this.open?.fact);
      if (at >= 0) this.position = page * PAGE + at;
    });
  }

  async #present(ask: () => Promise<RawDocument>): Promise<void> {
    const turn = ++this.#turn;
    this.page.error = null;
    this.failed = false;
    this.busy = true;
    try {
      const found = await ask();
      if (turn === this.#turn && this.active) this.page.present(found);
    } catch (problem) {
      if (turn !== this.#turn) return;
      this.failed = true;
      this.page.fail(problem);
    }
    if (turn === this.#turn) this.busy = false;
  }

  async #trying(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (problem) {
      this.page.fail(problem);
    }
  }
}
