// What can be taken away: the picture as PNG or SVG, the numbers as JSON.

import { palette, position, ticks } from "./colours";
import { strongest } from "./document";
import { block } from "./bitmap";
import { boxOf, cellAt, columnsOf, extent, FOOT, type Geometry, linesOf, MARGIN } from "./geometry";
import { FOCUS, paintPart, type Scene, STAR, SUBJECT } from "./paint";
import type { View } from "./view.svelte";
import { inside, isMarked } from "./words";

const GUTTER = 56;
const HEAD = 92;
const MOST_PIXELS = 16_000;

interface Sheet {
  readonly width: number;
  readonly height: number;
  readonly panels: { scene: Scene; top: number; left: number }[];
}

/** Both grids whole, side by side or one below the other, as they are on the page. */
function sheet(view: View, stacked: boolean): Sheet {
  const panels: { scene: Scene; top: number; left: number }[] = [];
  let [width, height] = [0, 0];
  for (const side of ["left", "right"] as const) {
    const grid = view[side];
    if (!grid) continue;
    const own = view.geometryOf(side);
    const geometry: Geometry = { ...own, x: 0, y: 0, ...extent(own) };
    const scene: Scene = {
      doc: view.doc,
      look: view.look,
      grid,
      theme: view.shown,
      geometry,
      means: view.means(grid),
      focus: grid.columns ? null : view.focus,
      current: null,
      pinned: (view.pinned?.space ?? "") === grid.space ? view.pinned : null,
    };
    const size = [GUTTER + geometry.width - MARGIN + 24, HEAD + geometry.height - FOOT + 76] as const;
    panels.push({ scene, left: stacked ? 0 : width, top: stacked ? height : 0 });
    width = stacked ? Math.max(width, size[0]) : width + size[0];
    height = stacked ? height + size[1] : Math.max(height, size[1]);
  }
  return { width: Math.max(width, 320), height, panels };
}

const INK = { light: "#22262b", dark: "#e6e9ed" };
const PAPER = { light: "#ffffff", dark: "#0f1215" };

function tokenColour({ look, grid, focus, theme }: Scene, token: number): string {
  if (grid.columns) return INK[theme];
  if (token === focus) return FOCUS[theme];
  return look.subject[token] ? SUBJECT[theme] : INK[theme];
}

interface Pen {
  text(x: number, y: number, text: string, style: { colour: string; size: number; anchor?: "start" | "middle" | "end"; turned?: boolean; bold?: boolean }): void;
}

/** Names of rows and tokens, title and legend: the same for both formats. */
function letter(pen: Pen, { scene, left, top }: Sheet["panels"][number], width: number): void {
  const { geometry: g, grid, look, doc, theme } = scene;
  const ink = INK[theme];
  pen.text(left + 8, top + 16, grid.title, { colour: ink, size: 14, bold: true });
  const rows = look.rows.map((name, row) => ({ name, box: boxOf(g, { row, token: 0 }) }));
  const tokens = (grid.columns ?? doc.labels).map((name, token) => ({ name, token, box: boxOf(g, { row: 0, token }) }));
  const [x0, y0] = [left + GUTTER, top + HEAD];
  for (const { name, box } of rows) {
    if (g.transpose) pen.text(x0 + box.left + g.cellW / 2, y0 - 6, name, { colour: ink, size: 11, anchor: "middle" });
    else pen.text(x0 - 6, y0 + box.top + g.cellH / 2 + 4, name, { colour: ink, size: 11, anchor: "end" });
  }
  for (const { name, token, box } of tokens) {
    const colour = tokenColour(scene, token);
    if (g.transpose) pen.text(x0 - 6, y0 + box.top + g.cellH / 2 + 4, name, { colour, size: 11, anchor: "end" });
    else if (grid.columns && g.cellW > 7 * name.length)
      pen.text(x0 + box.left + g.cellW / 2, y0 - 6, name, { colour, size: 11, anchor: "middle" });
    else pen.text(x0 + box.left + g.cellW / 2 + 4, y0 - 6, name, { colour, size: 11, turned: true });
  }
  const foot = y0 + g.height - FOOT;
  pen.text(left + 8, foot + 20, grid.meaning.slice(0, Math.floor(width / 5.6)), { colour: ink, size: 11 });
  for (const { t, text } of ticks(grid))
    pen.text(left + 8 + t * 200, foot + 52, text, { colour: ink, size: 10, anchor: t === 0 ? "start" : t === 1 ? "end" : "middle" });
}

export function svg(view: View, stacked: boolean): string {
  const made = sheet(view, stacked);
  const parts: string[] = [];
  const escape = (text: string) =>
    text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);
  const pen: Pen = {
    text: (x, y, text, s) =>
      void parts.push(
        `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="${s.size}" fill="${s.colour}"` +
          (s.bold ? ' font-weight="bold"' : "") +
          (s.anchor ? ` text-anchor="${s.anchor}"` : "") +
          (s.turned ? ` transform="rotate(-60 ${x.toFixed(1)} ${y.toFixed(1)})"` : "") +
          ` xml:space="preserve">${escape(text)}</text>`,
      ),
  };
  for (const panel of made.panels) {
    parts.push(...cellsAsSvg(panel, escape), legendAsSvg(panel));
    letter(pen, panel, panel.scene.geometry.width);
  }
  const theme = view.shown;
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${made.width}" height="${made.height}"` +
    ` viewBox="0 0 ${made.width} ${made.height}" font-family="system-ui, sans-serif">` +
    `<rect width="100%" height="100%" fill="${PAPER[theme]}"/>${parts.join("")}</svg>\n`
  );
}

function cellsAsSvg({ scene, left, top }: Sheet["panels"][number], escape: (t: string) => string): string[] {
  const { geometry: g, grid, theme, look, doc } = scene;
  const colours = palette(grid.scale, theme);
  const { across, down } = block(grid);
  const n = grid.values.shape[2] ?? 1;
  const found: string[] = [];
  for (let line = 0; line < linesOf(g); line++)
    for (let column = 0; column < columnsOf(g); column++) {
      const cell = cellAt(g, { column, line });
      const x = left + GUTTER + column * g.cellW;
      const y = top + HEAD + line * g.cellH;
      for (let part = 0; part < n; part++) {
        const at = (cell.row * g.tokens + cell.token) * n + part;
        const t = position(grid, grid.values.data[at] ?? NaN);
        const w = g.cellW / across;
        const h = g.cellH / down;
        found.push(
          `<rect x="${(x + (part % across) * w).toFixed(2)}" y="${(y + Math.floor(part / across) * h).toFixed(2)}" width="${w.toFixed(2)}" height="${h.toFixed(2)}" fill="${colours.css(t)}"/>`,
        );
      }
      const text = g.cellW >= 20 ? inside(look, grid, cell) : "";
      if (!text) continue;
      const most = Math.max(1, Math.floor(g.cellW / 6.5));
      const shown = [...text].length > most ? `${[...text].slice(0, most - 1).join("")}…` : text;
      const star = isMarked(doc, grid, cell) ? `<tspan fill="${STAR[theme]}">★</tspan>` : "";
      const ink = colours.ink(position(grid, strongest(grid.values, cell)));
      found.push(
        `<text x="${(x + g.cellW / 2).toFixed(1)}" y="${(y + g.cellH / 2 + 4).toFixed(1)}" font-size="11" text-anchor="middle" fill="${ink}">${escape(shown)}${star}</text>`,
      );
    }
  return found;
}

function legendAsSvg({ scene, left, top }: Sheet["panels"][number]): string {
  const { geometry: g, grid, theme } = scene;
  const y = top + HEAD + g.height - FOOT + 28;
  return Array.from(
    { length: 50 },
    (_, i) =>
      `<rect x="${left + 8 + i * 4}" y="${y}" width="4.2" height="10" fill="${palette(grid.scale, theme).css(i / 49)}"/>`,
  ).join("");
}

export function png(view: View, stacked: boolean): Promise<Blob> {
  const made = sheet(view, stacked);
  const ratio = Math.min(2, MOST_PIXELS / Math.max(made.width, made.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(made.width * ratio);
  canvas.height = Math.round(made.height * ratio);
  const context = canvas.getContext("2d")!;
  context.scale(ratio, ratio);
  context.fillStyle = PAPER[view.shown];
  context.fillRect(0, 0, made.width, made.height);
  const pen: Pen = {
    text: (x, y, text, s) => {
      context.save();
      context.font = `${s.bold ? "bold " : ""}${s.size}px system-ui, sans-serif`;
      context.fillStyle = s.colour;
      context.textAlign = s.anchor === "middle" ? "center" : (s.anchor ?? "start");
      context.textBaseline = "alphabetic";
      context.translate(x, y);
      if (s.turned) context.rotate(-Math.PI / 3);
      context.fillText(text, 0, 0);
      context.restore();
    },
  };
  for (const panel of made.panels) {
    const { geometry: g, grid, theme } = panel.scene;
    context.save();
    context.translate(panel.left + GUTTER, panel.top + HEAD);
    const all = { columns: [0, columnsOf(g)], lines: [0, linesOf(g)] } as const;
    paintPart(
      context,
      panel.scene,
      { columns: [...all.columns], lines: [...all.lines] },
      g.width - MARGIN,
      g.height - FOOT,
    );
    context.restore();
    const y = panel.top + HEAD + g.height - FOOT + 28;
    for (let i = 0; i < 100; i++) {
      context.fillStyle = palette(grid.scale, theme).css(i / 99);
      context.fillRect(panel.left + 8 + i * 2, y, 2.2, 10);
    }
    letter(pen, panel, g.width);
  }
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the picture is too large"))), "image/png"),
  );
}

export function download(content: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  document.body.append(link); // some browsers start only what is in the page
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A word of the focus and the effect, for a file's name. */
export function fileName(view: View, ending: string): string {
  const name = view.look.name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  return `twinlens-${name || "look"}.${ending}`;
}

