// Owns what comes prebuilt from npm: the native libraries, cargo's pointer to them, and the Chromium with WebNN.
// It unpacks into the cache, each folder whole or not at all, and never writes into the source tree except .cargo/config.toml.

import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const setupDir = dirname(fileURLToPath(import.meta.url));
const root = dirname(setupDir);
const cache = resolve(process.env.WEFT_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "weft"));
const platform = `${process.platform}-${process.arch}`;

const say = (line) => console.log(`setup: ${line}`);

function pinned(folder, name) {
  const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(setupDir, folder, "package.json"), "utf8"));
  return { ...dependencies, ...optionalDependencies }[name];
}

/** Installs a folder's locked packages in a scratch directory, lets `fill` make `target` from them, and keeps only that. */
function bring(folder, target, fill) {
  mkdirSync(dirname(target), { recursive: true });
  // Beside the target, so that the final rename stays within one file system.
  const scratch = mkdtempSync(join(dirname(target), ".incoming-"));
  try {
    for (const file of ["package.json", "package-lock.json"]) copyFileSync(join(setupDir, folder, file), join(scratch, file));
    // onnxruntime-node's install script would download CUDA libraries that nothing here uses.
    execFileSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"], { cwd: scratch, stdio: ["ignore", "ignore", "inherit"] });
    const filled = join(scratch, "filled");
    mkdirSync(filled);
    fill(join(scratch, "node_modules"), filled);
    try {
      renameSync(filled, target);
    } catch (error) {
      // Another setup that ran at the same time has put the same files there.
      if (!existsSync(target)) throw error;
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function nativeLibraries() {
  const duckdbPackage = `@duckdb/node-bindings-${platform}`;
  const duckdb = pinned("native", duckdbPackage)?.replace(/-r\.\d+$/, "");
  const ort = pinned("native", "onnxruntime-node");
  if (!duckdb) {
    say(`no prebuilt DuckDB is pinned for ${platform}: build with \`cargo build --features bundled-duckdb\` and let WEFT_NATIVE_DIR name a folder with ONNX Runtime ${ort}`);
    return undefined;
  }
  const [duckdbFile, ortFile] =
    process.platform === "darwin" ? ["libduckdb.dylib", "libonnxruntime.1.dylib"] : ["libduckdb.so", "libonnxruntime.so.1"];
  const target = join(cache, "native", `${platform}-duckdb${duckdb}-ort${ort}`);
  if (existsSync(target)) {
    say(`native libraries are in ${target}`);
  } else {
    bring("native", target, (modules, filled) => {
      copyFileSync(join(modules, duckdbPackage, duckdbFile), join(filled, duckdbFile));
      const ortDir = join(modules, "onnxruntime-node", "bin", "napi-v6", process.platform, process.arch);
      copyFileSync(join(ortDir, ortFile), join(filled, ortFile));
    });
    say(`brought DuckDB ${duckdb} and ONNX Runtime ${ort} into ${target}`);
  }
  return target;
}

/** Cargo reads its `[env]` from here, so builds and `cargo run` find the libraries without variables set by hand. */
function cargoConfig(native) {
  const env = native ? `[env]\nDUCKDB_LIB_DIR = ${JSON.stringify(native)}\nWEFT_NATIVE_DIR = ${JSON.stringify(native)}\nORT_DISABLE_TELEMETRY = "1"\nWEFT_ROOT = ${JSON.stringify(root)}\n\n` : "";
  const wanted = `# Written by \`make setup\`; edits are lost.\n${env}[build]\ntarget-dir = ${JSON.stringify(join(cache, "target"))}\n`;
  const file = join(root, ".cargo", "config.toml");
  if (existsSync(file) && readFileSync(file, "utf8") === wanted) {
    say(".cargo/config.toml is current");
    return;
  }
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, wanted);
  say("wrote .cargo/config.toml");
}

function chromium() {
  const version = pinned("chromium", "@sparticuz/chromium");
  if (platform !== "linux-x64") {
    say(`npm's Chromium ${version} runs on linux-x64 only, so webnn is missing on ${platform}`);
    return;
  }
  const target = join(cache, "browsers", `chromium-webnn-${version}`);
  const brought = !existsSync(target);
  if (brought) {
    bring("chromium", target, (modules, filled) => {
      // The package unpacks its browser, fonts and SwiftShader into the temporary directory; we lend it ours.
      const unpack = `import("@sparticuz/chromium").then(({ default: chromium }) => chromium.executablePath())`;
      execFileSync(process.execPath, ["--eval", unpack], {
        cwd: dirname(modules),
        env: { ...process.env, TMPDIR: filled },
        stdio: ["ignore", "ignore", "inherit"],
      });
      cpSync(join(modules, "@sparticuz", "chromium", "LICENSE"), join(filled, "LICENSE"));
    });
  }
  const answer = execFileSync(join(target, "chromium"), ["--version"], { encoding: "utf8" }).trim();
  say(brought ? `brought ${answer} with WebNN into ${target}` : `${answer} with WebNN is in ${target}`);
}

const steps = { native: () => cargoConfig(nativeLibraries()), chromium };
const step = steps[process.argv[2]];
if (!step) {
  console.error(`usage: node .setup/artifacts.mjs ${Object.keys(steps).join("|")}`);
  process.exit(2);
}
try {
  step();
} catch (error) {
  console.error(`setup: ${process.argv[2]}: ${error.message}`);
  process.exit(1);
}
