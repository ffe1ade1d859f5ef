// One bundle, three hosts: a page with a document in it, a server, a notebook's widget.

import { mount, unmount } from "svelte";
import App from "./App.svelte";
import { Client } from "./client";
import type { RawDocument } from "./document";
import type { View } from "./view.svelte";

declare global {
  interface Window {
    twinlens?: View;
  }
}

export function show(target: HTMLElement, raw: RawDocument | null, client: Client | null): () => void {
  const expose = (view: View) => (window.twinlens = view);
  const app = mount(App, { target, props: { raw, client, expose } });
  return () => {
    delete window.twinlens;
    void unmount(app);
  };
}

interface WidgetModel {
  get(name: "document"): string;
  on(event: string, callback: () => void): void;
  off(event: string, callback: () => void): void;
}

/** What anywidget asks for. */
export function render({ model, el }: { model: WidgetModel; el: HTMLElement }): () => void {
  let stop = () => {};
  const draw = () => {
    stop();
    stop = show(el, JSON.parse(model.get("document")) as RawDocument, null);
  };
  model.on("change:document", draw);
  draw();
  return () => {
    model.off("change:document", draw);
    stop();
  };
}

export default { render };

const target = document.getElementById("twinlens");
const stored = document.getElementById("twinlens-document")?.textContent;
const server = target?.dataset["server"];
if (target && (stored || server)) {
  show(target, stored ? (JSON.parse(stored) as RawDocument) : null, server ? new Client(server) : null);
}
