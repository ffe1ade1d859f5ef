import { expect, test } from "vitest";
import { palette, position, said, signed, ticks, valueAt, type Theme } from "../src/colours";
import type { Scale } from "../src/document";

const SCALES = [
  { scale: "sequential", low: 0, high: 1 },
  { scale: "diverging", low: -0.5, high: 0.5 },
  { scale: "log", low: 1, high: 2000 },
  { scale: "symlog", low: -3, high: 3 },
] as const;

test.each(SCALES)("position and value are each other's inverse: $scale", (grid) => {
  for (let t = 0; t <= 1; t += 0.05) expect(position(grid, valueAt(grid, t))).toBeCloseTo(t, 5);
});

test.each(SCALES)("a larger value stands further right: $scale", (grid) => {
  const values = Array.from({ length: 40 }, (_, i) => grid.low + (i / 39) * (grid.high - grid.low));
  const places = values.map((value) => position(grid, value));
  expect(places).toEqual([...places].sort((a, b) => a - b));
  expect(position(grid, grid.high * 10)).toBe(1);
  expect(position(grid, NaN)).toBeNaN();
});

test("zero is in the middle of what has two sides, and weak units are seen there", () => {
  expect(position({ scale: "diverging", low: -2, high: 2 }, 0)).toBe(0.5);
  expect(position({ scale: "symlog", low: -2, high: 2 }, 0)).toBe(0.5);
  const weak = (scale: Scale) => position({ scale, low: -2, high: 2 }, 0.02) - 0.5;
  expect(weak("symlog")).toBeGreaterThan(5 * weak("diverging"));
});

function luminance(css: string): number {
  const channel = (text: string) => (Number(text) / 255 <= 0.03928 ? Number(text) / 255 / 12.92 : ((Number(text) / 255 + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = css.startsWith("#") ? [1, 3, 5].map((i) => String(parseInt(css.slice(i, i + 2), 16))) : css.match(/\d+/g)!;
  return 0.2126 * channel(r!) + 0.7152 * channel(g!) + 0.0722 * channel(b!);
}

const THEMES: Theme[] = ["light", "dark"];
test.each(THEMES.flatMap((theme) => SCALES.map(({ scale }) => [theme, scale] as [Theme, Scale])))(
  "text stands out from every colour: %s, %s",
  (theme, scale) => {
    const colours = palette(scale, theme);
    for (let t = 0; t <= 1; t += 0.01) {
      const [a, b] = [luminance(colours.css(t)), luminance(colours.ink(t))].sort((x, y) => y - x);
      expect((a! + 0.05) / (b! + 0.05)).toBeGreaterThan(4.4);
    }
  },
);

test("orange is more than purple, in both themes", () => {
  for (const theme of THEMES) {
    const [r, , b] = palette("diverging", theme).css(0.85).match(/\d+/g)!.map(Number);
    expect(r!).toBeGreaterThan(b!);
    const [r2, , b2] = palette("diverging", theme).css(0.15).match(/\d+/g)!.map(Number);
    expect(b2!).toBeGreaterThan(r2!);
  }
});

test("numbers as a reader wants them", () => {
  expect(said(0.123456)).toBe("0.123");
  expect(said(-0.5)).toBe("−0.5");
  expect(signed(0.25)).toBe("+0.25");
  expect(said(-1.5e-7)).toBe("−1.50e−7");
  expect(said(NaN)).toBe("–");
  expect(said(0)).toBe("0");
});

test("a legend has numbers at its ends", () => {
  expect(ticks({ scale: "diverging", low: -0.8, high: 0.8 }).map(({ text }) => text)).toEqual(["−0.8", "0", "0.8"]);
  expect(ticks({ scale: "sequential", low: 0, high: 1 })[0]!.text).toBe("0");
});
