import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";

// Svelte's errors name a page about them: in a file without a network their names are enough.
const withoutAddresses: Plugin = {
  name: "without-addresses",
  renderChunk: (code) => code.replaceAll("https://svelte.dev/e/", "svelte: "),
};

// One ES module with its styles inside, for three hosts: page, notebook, server.
export default defineConfig({
  plugins: [svelte({ compilerOptions: { css: "injected" } }), withoutAddresses],
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
