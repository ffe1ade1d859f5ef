// Draw a grid: tiles of cells, kept while the view pans, and over them what moves with the pointer.

import { EMPTY, palette, position, said, type Theme } from "./colours";
import { type Cell, type Doc, type Grid, type Look, strongest } from "./document";
import { pixels } from "./bitmap";
import {
  boxOf,
  cellAt,
  columnsOf,
  FOOT,
  type Geometry,
  linesOf,
  MARGIN,
  visible,
} from "./geometry";
import { inside, isMarked } from "./words";

const TILE = 512; // pixels of a tile at most, across and down
const MOST_PIXELS = 48e6; // of all tiles of a grid
export const FONT = "11px ui-sans-serif, system-ui, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
export const STAR: Record<Theme, string> = { light: "#c2187a", dark: "#ff7ac2" };
export const FOCUS: Record<Theme, string> = { light: "#0b6b3a", dark: "#4fd08a" };
export const SUBJECT: Record<Theme, string> = { light: "#b3400a", dark: "#ff9a5c" };

export interface Scene {
  readonly doc: Doc;
  readonly look: Look;
  readonly grid: Grid;
  readonly theme: Theme;
  readonly geometry: Geometry;
  readonly means: { lines: Float64Array; columns: Float64Array };
  readonly focus: number | null;
  readonly current: Cell | null;
  /** The row that is told about on the other side, where its columns are not these. */
  readonly row?: number | null;
  readonly pinned: Cell | null;
}

/** Tiles of one grid, made when they are first seen. */
export class Tiles {
  #made = new Map<string, HTMLCanvasElement>();
  #pixels = 0;
  #of: unknown[] = [];

  /** Forget everything that was made for another grid, size, theme or orientation. */
  keep(...key: unknown[]): void {
    if (key.length === this.#of.length && key.every((part, i) => part === this.#of[i])) return;
    this.#of = key;
    this.#made.clear();
    this.#pixels = 0;
  }

  at(key: string, make: () => HTMLCanvasElement): HTMLCanvasElement {
    let tile = this.#made.get(key);
    if (tile) {
      this.#made.delete(key); // so that the oldest in use go last
    } else {
      tile = make();
      this.#pixels += tile.width * tile.height;
    }
    this.#made.set(key, tile);
    for (const [old, kept] of this.#made) {
      if (this.#pixels <= MOST_PIXELS || kept === tile) break;
      this.#made.delete(old);
      this.#pixels -= kept.width * kept.height;
    }
    return tile;
  }
}

export function paint(
  context: CanvasRenderingContext2D,
  scene: Scene,
  tiles: Tiles,
  ratio: number,
): void {
  const { geometry: g, grid, theme, look } = scene;
  tiles.keep(grid, look, theme, g.cellW, g.cellH, g.flip, g.transpose, ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, g.width, g.height);
  context.save();
  context.beginPath();
  context.rect(0, 0, g.width - MARGIN, g.height - FOOT);
  context.clip();
  paintTiles(context, scene, tiles, ratio);
  paintMarks(context, scene);
  context.restore();
  paintMeans(context, scene);
}

function paintTiles(
  context: CanvasRenderingContext2D,
  scene: Scene,
  tiles: Tiles,
  ratio: number,
): void {
  const { geometry: g } = scene;
  const { columns, lines } = visible(g);
  const across = Math.max(1, Math.floor(TILE / g.cellW));
  const down = Math.max(1, Math.floor(TILE / g.cellH));
  for (let i = Math.floor(lines[0] / down); i * down < lines[1]; i++)
    for (let j = Math.floor(columns[0] / across); j * across < columns[1]; j++) {
      const part: Part = {
        columns: [j * across, Math.min((j + 1) * across, columnsOf(g))],
        lines: [i * down, Math.min((i + 1) * down, linesOf(g))],
      };
      const width = (part.columns[1] - part.columns[0]) * g.cellW;
      const height = (part.lines[1] - part.lines[0]) * g.cellH;
      const tile = tiles.at(`${i}/${j}`, () => makeTile(scene, part, width, height, ratio));
      context.drawImage(
        tile,
        part.columns[0] * g.cellW - g.x,
        part.lines[0] * g.cellH - g.y,
        width,
        height,
      );
    }
}

interface Part {
  readonly columns: [number, number];
  readonly lines: [number, number];
}

function makeTile(
  scene: Scene,
  part: Part,
  width: number,
  height: number,
  ratio: number,
): HTMLCanvasElement {
  const tile = document.createElement("canvas");
  tile.width = Math.max(1, Math.round(width * ratio));
  tile.height = Math.max(1, Math.round(height * ratio));
  const context = tile.getContext("2d")!;
  context.scale(tile.width / width, tile.height / height);
  paintPart(context, scene, part, width, height);
  return tile;
}

/** Colours, lines between the cells, and texts of some cells, from the origin on. */
export function paintPart(
  context: CanvasRenderingContext2D,
  scene: Scene,
  part: Part,
  width: number,
  height: number,
): void {
  const { geometry: g, grid, theme } = scene;
  const made = pixels(grid, g, part.columns, part.lines, theme);
  const small = document.createElement("canvas");
  small.width = made.width;
  small.height = made.height;
  small.getContext("2d")!.putImageData(new ImageData(made.data, made.width, made.height), 0, 0);
  context.imageSmoothingEnabled = made.width > width; // more units than pixels: their mean
  context.drawImage(small, 0, 0, width, height);
  if (g.cellW >= 8 && g.cellH >= 8) {
    context.fillStyle = theme === "dark" ? "#0f1215" : "#ffffff";
    for (let i = 0; i <= part.columns[1] - part.columns[0]; i++)
      context.fillRect(Math.round(i * g.cellW) - 0.5, 0, 1, height);
    for (let i = 0; i <= part.lines[1] - part.lines[0]; i++)
      context.fillRect(0, Math.round(i * g.cellH) - 0.5, width, 1);
  }
  if (g.cellW >= 24 && g.cellH >= 13) paintTexts(context, scene, part);
}

function paintTexts(context: CanvasRenderingContext2D, scene: Scene, part: Part): void {
  const { doc, look, grid, geometry: g, theme } = scene;
  const colours = palette(grid.scale, theme);
  context.font = FONT;
  context.textBaseline = "middle";
  context.textAlign = "center";
  for (let line = part.lines[0]; line < part.lines[1]; line++)
    for (let column = part.columns[0]; column < part.columns[1]; column++) {
      const cell = cellAt(g, { column, line });
      const text = inside(look, grid, cell);
      if (!text) continue;
      const star = isMarked(doc, grid, cell);
      const shown = fittedText(context, text, g.cellW - 4, !grid.lens);
      const x = (column - part.columns[0] + 0.5) * g.cellW;
      const y = (line - part.lines[0] + 0.5) * g.cellH;
      context.fillStyle = colours.ink(position(grid, strongest(grid.values, cell)));
      context.fillText(shown, x, y);
      if (star) paintStar(context, x + g.cellW / 2 - 6, y - g.cellH / 2 + 6);
    }
}

function paintStar(context: CanvasRenderingContext2D, x: number, y: number): void {
  context.beginPath();
  for (let i = 0; i < 10; i++) {
    const angle = (Math.PI * i) / 5 - Math.PI / 2;
    const radius = i % 2 ? 1.7 : 4;
    context.lineTo(x + radius * Math.cos(angle), y + radius * Math.sin(angle));
  }
  context.closePath();
  context.fill();
}

const widths = new Map<string, number>();

/** The text, or as much of its start as fits (nothing, where only all of it makes sense). */
function fittedText(
  context: CanvasRenderingContext2D,
  text: string,
  room: number,
  whole: boolean,
): string {
  const wide = (some: string) => {
    let width = widths.get(some);
    if (width === undefined) {
      if (widths.size > 50_000) widths.clear();
      width = context.measureText(some).width;
      widths.set(some, width);
    }
    return width;
  };
  if (wide(text) <= room) return text;
  if (whole) return "";
  const letters = [...text];
  for (let n = Math.min(letters.length - 1, Math.ceil(room / 4)); n >= 2; n--) {
    const short = `${letters.slice(0, n).join("")}…`;
    if (wide(short) <= room) return short;
  }
  return "";
}

function paintMarks(context: CanvasRenderingContext2D, scene: Scene): void {
  const { geometry: g, theme, current, pinned } = scene;
  if (scene.focus !== null) {
    const box = boxOf(g, { row: 0, token: scene.focus });
    context.strokeStyle = FOCUS[theme];
    context.lineWidth = 1.5;
    context.setLineDash([4, 3]);
    if (g.transpose) context.strokeRect(-2, box.top, g.width + 4, box.height);
    else context.strokeRect(box.left, -2, box.width, g.height + 4);
    context.setLineDash([]);
  }
  if (current) {
    const box = boxOf(g, current);
    context.fillStyle = theme === "dark" ? "rgba(255,255,255,.1)" : "rgba(10,20,40,.08)";
    context.fillRect(box.left, 0, box.width, g.height);
    context.fillRect(0, box.top, g.width, box.height);
    outline(context, box, theme === "dark" ? "#ffffff" : "#101418", 2);
  }
  if (scene.row != null) {
    const box = boxOf(g, { row: scene.row, token: 0 });
    context.fillStyle = theme === "dark" ? "rgba(255,255,255,.12)" : "rgba(10,20,40,.1)";
    if (g.transpose) context.fillRect(box.left, 0, box.width, g.height);
    else context.fillRect(0, box.top, g.width, box.height);
  }
  if (pinned) outline(context, boxOf(g, pinned), STAR[theme], 2.5);
}

function outline(
  context: CanvasRenderingContext2D,
  box: { left: number; top: number; width: number; height: number },
  colour: string,
  width: number,
): void {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.strokeRect(box.left, box.top, Math.max(box.width, 3), Math.max(box.height, 3));
}

function paintMeans(context: CanvasRenderingContext2D, scene: Scene): void {
  const { geometry: g, grid, theme, means } = scene;
  const { columns, lines } = visible(g);
  const right = g.width - MARGIN;
  const bottom = g.height - FOOT;
  const ofLines = largest(means.lines);
  const ofColumns = largest(means.columns);
  context.save();
  context.beginPath();
  context.rect(right, 0, MARGIN, bottom);
  context.clip();
  for (let line = lines[0]; line < lines[1]; line++)
    bar(context, grid, theme, means.lines[line]!, ofLines, {
      left: right + 4,
      top: line * g.cellH - g.y + 1,
      width: MARGIN - 8,
      height: Math.max(1, g.cellH - 2),
    });
  context.restore();
  context.save();
  context.beginPath();
  context.rect(0, bottom, right, FOOT);
  context.clip();
  for (let column = columns[0]; column < columns[1]; column++)
    bar(context, grid, theme, means.columns[column]!, ofColumns, {
      left: column * g.cellW - g.x + 1,
      top: bottom + 4,
      width: Math.max(1, g.cellW - 2),
      height: FOOT - 8,
    }, true);
  context.restore();
  context.fillStyle = theme === "dark" ? "#a5adb7" : "#5b6470";
  context.font = "9px ui-sans-serif, system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText("means", right + MARGIN / 2, bottom + 7);
  context.fillText(`↕ ≤ ${said(ofLines, 1)}`, right + MARGIN / 2, bottom + 18);
  context.fillText(`↔ ≤ ${said(ofColumns, 1)}`, right + MARGIN / 2, bottom + 29);
}

function largest(values: Float64Array): number {
  let found = 0;
  for (const value of values) if (Math.abs(value) > found) found = Math.abs(value);
  return found || 1;
}

function bar(
  context: CanvasRenderingContext2D,
  grid: Grid,
  theme: Theme,
  value: number,
  limit: number,
  box: { left: number; top: number; width: number; height: number },
  upward = false,
): void {
  context.fillStyle = EMPTY[theme];
  if (Number.isNaN(value)) return;
  const share = Math.min(1, Math.abs(value) / limit);
  const diverging = grid.scale === "diverging" || grid.scale === "symlog";
  const side = diverging ? (value < 0 ? 0.12 : 0.85) : 0.7;
  context.fillStyle = palette(diverging ? "diverging" : "sequential", theme).css(side);
  if (upward) {
    const height = share * box.height;
    context.fillRect(box.left, box.top + box.height - height, box.width, height);
  } else context.fillRect(box.left, box.top, share * box.width, box.height);
}
