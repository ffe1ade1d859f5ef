// The list of a run's facts: what is asked for, which of it is in sight, and what it says.

import type { FactRow, Request, RunInfo } from "./client";
import type { components } from "./api";
import type { RawLook } from "./document";

type Parameters = NonNullable<
  import("./api").paths["/api/runs/{run}/facts"]["get"]["parameters"]["query"]
>;
export type Kept = NonNullable<Parameters["status"]>;
export type SortedBy = NonNullable<Parameters["sort"]>;
export type Settings = components["schemas"]["Look"]["settings"][number];

export interface Query {
  readonly search: string;
  readonly status: Kept;
  readonly sort: SortedBy;
  readonly descending: boolean;
}

export const ALL: Query = { search: "", status: "any", sort: "fact", descending: false };
export const PAGE = 100; // facts asked for at once

/** The part of an address that asks for a page of facts. */
export function address(query: Query, page: number): string {
  const asked = new URLSearchParams({
    search: query.search,
    status: query.status,
    sort: query.sort,
    descending: String(query.descending),
    offset: String(page * PAGE),
    limit: String(PAGE),
  });
  return asked.toString();
}

/** The same facts by another column; by the same one, the other way round. */
export function sorted(query: Query, by: SortedBy): Query {
  const numbers = by === "clean" || by === "corrupted" || by === "effect" || by === "probability";
  const descending = query.sort === by ? !query.descending : numbers;
  return { ...query, sort: by, descending };
}

/** The rows in sight, and a few more: first, and after the last. */
export function inSight(
  scrolled: number,
  height: number,
  row: number,
  total: number,
  more = 6,
): [number, number] {
  const first = Math.max(0, Math.min(total, Math.floor(scrolled / row) - more));
  return [first, Math.max(first, Math.min(total, Math.ceil((scrolled + height) / row) + more))];
}

/** The pages that hold some rows. */
export function pagesOf([first, stop]: readonly [number, number]): number[] {
  if (stop <= first) return [];
  const [from, to] = [Math.floor(first / PAGE), Math.floor((stop - 1) / PAGE)];
  return Array.from({ length: to - from + 1 }, (_, n) => from + n);
}

/** How far a list must be scrolled so that a row is whole in sight. */
export function scrolledTo(position: number, scrolled: number, height: number, row: number): number {
  const [top, bottom] = [position * row, (position + 1) * row];
  if (top < scrolled) return top;
  return bottom > scrolled + height ? bottom - height : scrolled;
}

/** Whether the model knows a fact, in a word. */
export function statusOf({ status, known }: Pick<FactRow, "status" | "known">): string {
  if (status === "failed") return "failed";
  return known === null ? "measured" : known ? "known" : "unknown";
}

/** Why a fact has no grids; null where it has. */
export function missing(row: FactRow): string | null {
  if (row.status === "measured") return null;
  if (row.status === "failed") return `this fact could not be asked: ${row.reason ?? "it failed"}`;
  const says = row.said === null ? "" : `: it says ${row.said}, not ${row.answer ?? "the answer"}`;
  return `not measured, since the model does not know this fact${says}; twinlens sweep --unknown measures such facts, too`;
}

/** A prompt in three parts, of which the second is the subject (as it stands last). */
export function parted(prompt: string, subject: string): [string, string, string] {
  const wanted = subject.trim();
  const at = wanted ? prompt.lastIndexOf(wanted) : -1;
  if (at < 0) return [prompt, "", ""];
  return [prompt.slice(0, at), wanted, prompt.slice(at + wanted.length)];
}

/** A run in a line: how far it is and what the model knows. */
export function progressOf(run: RunInfo): string {
  const number = (n: number) => n.toLocaleString("en");
  const done = run.done < run.facts ? `${number(run.done)} of ${number(run.facts)}` : number(run.done);
  const parts = [`${done} facts`, `${number(run.measured)} measured`];
  if (run.known + run.unknown) parts.push(`${number(run.known)} known, ${number(run.unknown)} unknown`);
  if (run.failed) parts.push(`${number(run.failed)} failed`);
  return parts.join(" · ");
}

/** The request of a look that measures a fact as its run did, states only. */
export function requestOf(
  base: Request,
  model: string,
  row: Pick<FactRow, "prompt" | "subject">,
  settings: RawLook["settings"][number],
): Request {
  const replaced = settings["corruption"] === "counterfactual";
  const measure = settings["measure"] as string[];
  const asked = {
    model,
    prompt: row.prompt,
    subject: [row.subject],
    answer: settings["answer_id"],
    counterfactual: replaced ? settings["counterfactual"] : null,
    kinds: measure.includes("trace") ? settings["kinds"] : ["block"],
    sigma: replaced ? null : settings["sigma"],
    noise_replaces: settings["replace"],
    subject_tokens: [],
    replace: [],
    targets: [settings["answer_id"]],
    restored_cells: [],
    focus: null,
    foil: null,
  };
  const same = ["window", "metric", "direction", "times_std", "samples", "seed", "rule", "df"];
  const taken = Object.fromEntries(same.map((name) => [name, settings[name]]));
  return { ...base, ...taken, ...asked } as Request;
}
