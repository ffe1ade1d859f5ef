// The server's side of the page: what it has, what it computes, how far it is.

import type { components } from "./api";
import type { RawDocument } from "./document";

type Schemas = components["schemas"];
export type Request = Schemas["LookRequest"];
export type Progress = Schemas["Progress"];
export type ModelInfo = Schemas["ModelInfo"];
export type Card = Schemas["Card"];
export type RunInfo = Schemas["RunInfo"];
export type FactRow = Schemas["FactRow"];
export type FactPage = Schemas["FactPage"];

export class ServerError extends Error {
  constructor(
    message: string,
    readonly field: string | null = null,
  ) {
    super(message);
  }
}

/** What was asked for was cancelled. */
export class Cancelled extends Error {}

export class Client {
  constructor(readonly base: string) {}

  async models(): Promise<ModelInfo[]> {
    return (await this.#ask<{ models: ModelInfo[] }>("GET", "/models")).models;
  }

  defaults(): Promise<Request> {
    return this.#ask("GET", "/defaults");
  }

  neuron(model: string, layer: number, neuron: number): Promise<Card> {
    return this.#ask("POST", "/neurons", { model, layer, neuron });
  }

  async runs(): Promise<RunInfo[]> {
    return (await this.#ask<{ runs: RunInfo[] }>("GET", "/runs")).runs;
  }

  /** Some facts of a run, as a query asks for them. */
  facts(run: string, query: string): Promise<FactPage> {
    return this.#ask("GET", `/runs/${encodeURIComponent(run)}/facts?${query}`);
  }

  fact(run: string, fact: number): Promise<RawDocument> {
    return this.#ask("GET", `/runs/${encodeURIComponent(run)}/facts/${fact}`);
  }

  average(run: string): Promise<RawDocument> {
    return this.#ask("GET", `/runs/${encodeURIComponent(run)}/average`);
  }

  /** Compute a look; `stop` cancels it on the server too. */
  async look(
    request: Request,
    onProgress: (progress: Progress) => void,
    stop: AbortSignal,
  ): Promise<RawDocument> {
    const { id } = await this.#ask<{ id: string }>("POST", "/looks", request);
    const cancel = () => void this.#ask("DELETE", `/looks/${id}`).catch(() => undefined);
    if (stop.aborted) cancel();
    stop.addEventListener("abort", cancel, { once: true });
    try {
      await this.#done(id, onProgress, stop);
    } finally {
      stop.removeEventListener("abort", cancel);
    }
    return this.#ask("GET", `/looks/${id}`);
  }

  #done(
    id: string,
    onProgress: (progress: Progress) => void,
    stop: AbortSignal,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      let failures = 0; // of the connection, one after the other
      const events = new EventSource(`${this.base}/looks/${id}/events`);
      const leave = () => {
        events.close();
        reject(new Cancelled());
      };
      if (stop.aborted) return leave();
      stop.addEventListener("abort", leave, { once: true });
      events.onopen = () => (failures = 0);
      events.addEventListener("progress", (event) => {
        const progress = JSON.parse((event as MessageEvent<string>).data) as Progress;
        onProgress(progress);
        if (progress.state === "queued" || progress.state === "running") return;
        events.close();
        if (progress.state === "done") resolve();
        else if (progress.state === "cancelled")
          reject(new ServerError("it was cancelled elsewhere; run it again"));
        else reject(new ServerError(progress.message ?? "it failed"));
      });
      events.onerror = () => {
        failures++;
        if (events.readyState !== EventSource.CLOSED && failures < 3) return; // it tries again
        events.close();
        reject(new ServerError("the server is gone; is `twinlens serve` still running?"));
      };
    });
  }

  async #ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    let answer: Response;
    try {
      answer = await fetch(this.base + path, {
        method,
        ...(body === undefined
          ? {}
          : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }),
      });
    } catch {
      throw new ServerError("the server does not answer; is `twinlens serve` still running?");
    }
    const said: unknown = await answer.json().catch(() => null);
    if (answer.ok) return said as T;
    const error = (said as { error?: { message?: string; field?: string | null } } | null)?.error;
    throw new ServerError(error?.message ?? `the server says ${answer.status}`, error?.field ?? null);
  }
}
