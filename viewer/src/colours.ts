// From numbers to colours, in a light and a dark theme: safe for colour-blind eyes, with a legend.

import { scaleLinear } from "d3-scale";
import { interpolateGnBu, interpolatePuOr } from "d3-scale-chromatic";
import type { Grid, Scale } from "./document";

export type Theme = "light" | "dark";

const SYMLOG = 1 / 30; // of the largest: colours are linear below, logarithmic above
const STEPS = 512;

const DARK_SEQUENTIAL = ramp(["#161c23", "#17425c", "#1c7f8c", "#57bd9a", "#d6f2a8"]);
const DARK_DIVERGING = ramp(["#c9b4ff", "#7457c8", "#1b2027", "#b4600f", "#ffbe6b"]);

export const EMPTY: Record<Theme, string> = { light: "#e4e4e2", dark: "#2b3037" };

function ramp(stops: string[]): (t: number) => string {
  return scaleLinear<string>()
    .domain(stops.map((_, i) => i / (stops.length - 1)))
    .range(stops);
}

/** Where a value stands between the ends of a grid's scale, 0 to 1 (NaN for no value). */
export function position(
  { scale, low, high }: Pick<Grid, "scale" | "low" | "high">,
  value: number,
): number {
  if (Number.isNaN(value)) return NaN;
  return Math.min(1, Math.max(0, raw(scale, low, high, value)));
}

function raw(scale: Scale, low: number, high: number, value: number): number {
  if (scale === "log") {
    const floor = Math.max(low, 1e-12);
    const span = Math.log(Math.max(high, 2 * floor) / floor);
    return Math.log(Math.max(value, floor) / floor) / span;
  }
  if (scale === "symlog") return (symlog(value / high) / symlog(1) + 1) / 2;
  return high > low ? (value - low) / (high - low) : 0.5;
}

function symlog(x: number): number {
  const size = Math.abs(x) / SYMLOG;
  return Math.sign(x) * (size <= 1 ? size : 1 + Math.log(size));
}

/** The value at a place of the scale: the inverse of `position`. */
export function valueAt(grid: Pick<Grid, "scale" | "low" | "high">, t: number): number {
  if (grid.scale === "log") {
    const floor = Math.max(grid.low, 1e-12);
    return floor * (Math.max(grid.high, 2 * floor) / floor) ** t;
  }
  if (grid.scale === "symlog") {
    const s = (2 * t - 1) * symlog(1);
    const size = Math.abs(s) <= 1 ? Math.abs(s) : Math.exp(Math.abs(s) - 1);
    return Math.sign(s) * size * SYMLOG * grid.high;
  }
  return grid.low + t * (grid.high - grid.low);
}

export interface Palette {
  /** CSS colour of a place on the scale. */
  css(t: number): string;
  /** The same as red, green, blue bytes of step `i` of `steps`. */
  readonly bytes: Uint8ClampedArray;
  readonly steps: number;
  /** Text that stands out from the colour there. */
  ink(t: number): string;
}

const palettes = new Map<string, Palette>();

export function palette(scale: Scale, theme: Theme): Palette {
  const key = `${scale}/${theme}`;
  const known = palettes.get(key);
  if (known) return known;
  const interpolate = interpolator(scale, theme);
  const bytes = new Uint8ClampedArray(STEPS * 3);
  for (let i = 0; i < STEPS; i++) bytes.set(rgb(interpolate(i / (STEPS - 1))), i * 3);
  const step = (t: number) => 3 * Math.round(t * (STEPS - 1));
  const triple = (t: number) => bytes.subarray(step(t), step(t) + 3);
  const made: Palette = {
    bytes,
    steps: STEPS,
    css: (t) => (Number.isNaN(t) ? EMPTY[theme] : `rgb(${triple(t).join(" ")})`),
    ink: (t) => {
      if (Number.isNaN(t)) return theme === "dark" ? "#e8eaed" : "#22262b";
      return luminance(triple(t)) > 0.186 ? "#060708" : "#ffffff";
    },
  };
  palettes.set(key, made);
  return made;
}

function interpolator(scale: Scale, theme: Theme): (t: number) => string {
  const diverging = scale === "diverging" || scale === "symlog";
  if (theme === "dark") {
    if (diverging) return DARK_DIVERGING;
    return scale === "log" ? (t) => DARK_SEQUENTIAL(1 - t) : DARK_SEQUENTIAL;
  }
  if (diverging) return interpolatePuOr;
  return scale === "log" ? (t) => interpolateGnBu(1 - t) : interpolateGnBu;
}

function rgb(css: string): [number, number, number] {
  if (css.startsWith("#")) {
    const n = parseInt(css.slice(1), 16);
    return [n >> 16, (n >> 8) & 255, n & 255];
  }
  const [r = 0, g = 0, b = 0] = (css.match(/[\d.]+/g) ?? []).map(Number);
  return [r, g, b];
}

/** Relative luminance (WCAG 2). */
function luminance(bytes: ArrayLike<number>): number {
  const linear = Array.from({ length: 3 }, (_, i) => {
    const c = (bytes[i] ?? 0) / 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
}

/** A number as a reader wants it: three digits, a true minus. */
export function said(value: number, digits = 3): string {
  if (Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-4 ? value.toExponential(digits - 1) : Number(value.toPrecision(digits)).toString();
  return text.replaceAll("-", "−");
}

/** The same with a sign. */
export function signed(value: number, digits = 3): string {
  return value > 0 ? `+${said(value, digits)}` : said(value, digits);
}

/** Numbers for a legend: places on the scale and what stands there. */
export function ticks(grid: Pick<Grid, "scale" | "low" | "high">): { t: number; text: string }[] {
  const places = grid.scale === "symlog" ? [0, 0.25, 0.5, 0.75, 1] : [0, 0.5, 1];
  return places.map((t) => {
    const value = valueAt(grid, t);
    return { t, text: said(Math.abs(value) < 1e-9 * Math.abs(grid.high) ? 0 : value, 2) };
  });
}
