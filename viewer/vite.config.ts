import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// One ES module with its styles inside, for three hosts: page, notebook, server.
export default defineConfig({
  plugins: [svelte({ compilerOptions: { css: "injected" } })],
  publicDir: false,
  build: {
    outDir: "../src/twinlens/show/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    reportCompressedSize: false,
    rolldownOptions: {
      input: "src/main.ts",
      preserveEntrySignatures: "strict",
      output: { entryFileNames: "twinlens.js", format: "es" },
    },
  },
});
