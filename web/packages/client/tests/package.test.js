// The package as a whole: what it weighs, what it drags in, what it says of itself.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import { version } from '../dist/version.js'

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))

test('it says its own version, and depends on nothing', () => {
  assert.equal(version, manifest.version)
  assert.equal(manifest.dependencies, undefined)
})

for (const [entry, most] of [['index', 12_000], ['emitter', 4_000]]) {
  test(`${entry}: bundles for browsers, in less than ${most} bytes`, async (t) => {
    const { outputFiles: [{ contents }] } = await build({
      entryPoints: [new URL(`../dist/${entry}.js`, import.meta.url).pathname],
      bundle: true, minify: true, format: 'esm', platform: 'browser', write: false, // node:fs would be an error
    })
    const size = gzipSync(contents).length
    t.diagnostic(`${entry}: ${contents.length} bytes minified, ${size} gzipped`)
    assert.ok(size < most, `${size}`)
  })
}
