// What a reader chose for every page: kept by the browser, where it has a place for it.

import type { Theme } from "./colours";

const KEPT = "twinlens.view";

export interface Kept {
  flip: boolean;
  transpose: boolean;
  theme: "system" | Theme;
}

export function keep(choice: Kept): void {
  try {
    localStorage.setItem(KEPT, JSON.stringify(choice));
  } catch {
    // a page without storage forgets, that is all
  }
}

export function kept(): Partial<Kept> {
  try {
    const read: unknown = JSON.parse(localStorage.getItem(KEPT) ?? "{}");
    if (typeof read !== "object" || read === null) return {};
    const { flip, transpose, theme } = read as Record<string, unknown>;
    return {
      flip: flip === true,
      transpose: transpose === true,
      theme: theme === "dark" || theme === "light" ? theme : "system",
    };
  } catch {
    return {};
  }
}
