// The state machine against SPEC.md: every cell of its table, then its rules.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { closeName, initial, isFinal, step } from '../dist/machine.js'
import { cell, columns, rows } from './lib/table.js'

const spec = readFileSync(new URL('../SPEC.md', import.meta.url), 'utf8')
const lines = spec.split('## The table')[1].split('## Rules')[0].split('\n').filter((line) => line.startsWith('|'))
const table = lines.map((line) => line.split('|').slice(1, -1).map((text) => text.trim()))

test('the table has every event and every phase', () => {
  assert.deepEqual(table[0].slice(1), columns)
  assert.deepEqual(table.slice(2).map(([row]) => row), Object.keys(rows))
})

for (const [row, ...written] of table.slice(2)) {
  test(`table: ${row}`, () => {
    assert.deepEqual(columns.map((column) => cell(row, column)), written)
  })
}

const both = { transports: ['websocket', 'sse'], snapshots: [], consumer: false }
const message = (message) => ({ type: 'message', message })

/** Runs events through the machine; those that need it get the present connection. */
function run(events, rules = both, state = initial(rules)) {
  const effects = []
  for (const event of events) {
    const [next, done] = step(state, { connection: state.connection, ...event })
    state = next
    effects.push(...done)
  }
  return { state, effects, last: (name) => effects.findLast((effect) => effect.do === name) }
}
const start = { type: 'start', cursor: '1-5' }
const welcome = message({ type: 'welcome', cursor: '1-5', heartbeatMs: 10_000 })
const live = message({ type: 'live', cursor: '1-5' })
const lost = { type: 'closed', code: 1006 }
const retry = { type: 'timer', name: 'retry' }
const event = (cursor) => ({ cursor, position: Number(cursor.split('-')[1]) })
const wait = ({ last }) => {
  const { atLeastMs, spreadMs } = last('timer')
  return [atLeastMs, spreadMs]
}

test('the wait doubles up to half a minute, and begins anew when it was live', () => {
  const round = [welcome, lost, retry]
  const spreads = Array.from({ length: 7 }, (_, n) => wait(run([start, ...Array(n).fill(round).flat(), welcome, lost])))
  assert.deepEqual(spreads, [1, 2, 4, 8, 16, 30, 30].map((s) => [0, s * 1_000]))
  assert.deepEqual(wait(run([start, ...round, ...round, welcome, live, lost])), [0, 1_000])
})

test('the server’s advice is kept to', () => {
  const error = message({ type: 'error', code: 'overloaded', message: 'full', retryAfterMs: 7_000 })
  assert.deepEqual(wait(run([start, error, { type: 'closed', code: 1013 }])), [7_000, 1_000])
  assert.deepEqual(wait(run([start, { type: 'closed', code: 1013, retryAfterMs: 3_000 }])), [3_000, 1_000])
  assert.deepEqual(wait(run([start, welcome, { type: 'heard', retryMs: 1_700 }, lost])), [0, 1_700])
  const after = run([start, error, { type: 'closed', code: 1013 }, retry, lost])
  assert.deepEqual(wait(after), [0, 2_000], 'it is of one connection')
})

test('an expired token is replaced at once, but not in a circle', () => {
  const expired = { type: 'closed', code: 4002 }
  assert.deepEqual(wait(run([start, welcome, live, expired])), [0, 0])
  assert.deepEqual(wait(run([start, welcome, live, expired, retry, expired])), [0, 2_000])
})

test('close codes: when it comes back, and what it is called when it does not', () => {
  const comesBack = [1000, 1001, 1005, 1006, 1011, 1012, 1013, 4000, 4001, 4002, 4003, 4004, 4099, 4200]
  const final = [4100, 4101, 4102, 4103, 4104, 4105, 4106, 4199]
  for (const code of comesBack) assert.equal(run([start, welcome, { type: 'closed', code }]).state.phase, 'waiting', `${code}`)
  for (const code of final) {
    assert.ok(isFinal(code, true))
    const { state, effects } = run([start, welcome, { type: 'closed', code }])
    assert.equal(state.phase, 'closed')
    assert.equal(state.error.code, closeName(code))
    assert.ok(!effects.some((effect) => effect.do === 'timer' && effect.name === 'retry'))
  }
  assert.equal(run([start, { type: 'closed', code: 1009 }]).state.error.code, 'too_large', 'the hello')
  assert.equal(run([start, welcome, { type: 'closed', code: 1009 }]).state.phase, 'waiting', 'one message')
  const refused = run([start, message({ type: 'error', code: 'invalid_room', message: 'kitchen:1 is no room' }), { type: 'closed', code: 4103 }])
  assert.deepEqual(refused.state.error, { code: 'invalid_room', message: 'kitchen:1 is no room' })
  const later = run([start, welcome, message({ type: 'error', code: 'rate_limited', message: 'slower' }), { type: 'closed', code: 4101 }])
  assert.equal(later.state.error.code, 'token_revoked', 'an old error is not why it closed')
})

test('a dead line is given up within two heartbeats', () => {
  const silence = { type: 'timer', name: 'silence' }
  const first = run([start, welcome])
  assert.equal(first.last('timer').atLeastMs, 10_000)
  const second = run([start, welcome, silence])
  assert.deepEqual([second.last('ping').connection, second.last('timer').atLeastMs], [1, 10_000])
  assert.equal(run([start, welcome, silence, message({ type: 'pong' }), silence]).state.phase, 'replaying')
  assert.equal(run([start, welcome, silence, silence]).state.phase, 'waiting')
})

test('transports take turns when WebSocket does not get through', () => {
  const used = (events, rules) => run(events, rules).effects.filter((effect) => effect.do === 'connect').map(({ transport }) => transport)
  const again = [lost, retry]
  const blocked = [start, ...Array(6).fill(again).flat()]
  assert.deepEqual(used(blocked), ['websocket', 'websocket', 'sse', 'websocket', 'sse', 'websocket', 'sse'])
  assert.deepEqual(used([start, ...again, ...again, welcome, live, ...again, ...again, welcome, ...again]),
    ['websocket', 'websocket', 'sse', 'websocket', 'sse', 'websocket'])
  const overloaded = [{ type: 'closed', code: 1013 }, retry]
  assert.deepEqual(used([start, ...again, ...overloaded, ...again, ...again]), ['websocket', 'websocket', 'websocket', 'websocket', 'sse'],
    'who says a reason was reached')
  assert.deepEqual(used(blocked, { ...both, transports: ['websocket'] }), Array(7).fill('websocket'))
  assert.deepEqual(used(blocked, { ...both, transports: ['sse'] }), Array(7).fill('sse'))
})

test('the cursor: what was passed is passed over, also within a message', () => {
  const events = (...cursors) => message({ type: 'events', events: cursors.map(event), cursor: cursors.at(-1) })
  const { state, effects } = run([start, welcome, events('1-6', '1-6', '1-8'), events('1-7', '1-8', '1-9'), message({ type: 'cursor', cursor: '1-7' })])
  const delivered = effects.filter((effect) => effect.do === 'deliver').flatMap((effect) => effect.events.map(({ cursor }) => cursor))
  assert.deepEqual(delivered, ['1-6', '1-8', '1-9'])
  assert.equal(state.cursor, '1-9')
})

test('a welcome gives a cursor only to who has none', () => {
  assert.equal(run([start, message({ type: 'welcome', cursor: '1-50' })]).state.cursor, '1-5')
  for (const cursor of ['now', 'earliest', null]) {
    assert.equal(run([{ type: 'start', cursor }, message({ type: 'welcome', cursor: '1-50' })]).state.cursor, '1-50')
  }
})

test('snapshots are asked for until they have come, and again after a reset', () => {
  const rules = { ...both, snapshots: ['/orders', '/availability'] }
  const page = (namespace, more = false) => message({ type: 'snapshot', namespace, states: [], cursor: '1-9', more })
  const asked = (events) => run(events, rules).last('connect').snapshots
  assert.deepEqual(asked([start]), ['/orders', '/availability'])
  assert.deepEqual(asked([start, welcome, page('/orders', true), lost, retry]), ['/orders', '/availability'])
  assert.deepEqual(asked([start, welcome, page('/orders'), lost, retry]), ['/availability'])
  const reset = message({ type: 'reset', reason: 'expired', oldest: '1-9', resume: '1-9', snapshot: '/v1/state' })
  const after = run([start, welcome, page('/orders'), reset], rules)
  assert.deepEqual(after.last('resnapshot').namespaces, ['/orders'], 'the other one is still to come')
  assert.deepEqual(after.state.snapshots, ['/orders', '/availability'])
  assert.equal(after.state.cursor, '1-9')
})

test('a snapshot that was cut short begins anew, and its first page says so', () => {
  const page = (namespace, more) => message({ type: 'snapshot', namespace, states: [], cursor: '1-9', more })
  const { effects } = run([start, welcome, page('/orders', true), page('/orders', true), lost, retry, welcome,
    page('/orders', true), page('/orders', false), page('/availability', true), page('/availability', false), page('/availability', false)],
  { ...both, snapshots: ['/orders', '/availability'] })
  assert.deepEqual(effects.filter((effect) => effect.do === 'snapshot').map((effect) => effect.page.first),
    [true, false, true, false, true, false, true])
})

test('acknowledging again what an old connection may not have said', () => {
  const rules = { ...both, transports: ['websocket'], consumer: true }
  const { effects } = run([start, welcome, { type: 'handled', cursor: '1-7' }, lost, { type: 'handled', cursor: '1-8' }, retry, welcome], rules)
  assert.deepEqual(effects.filter((effect) => effect.do === 'acknowledge').map(({ connection, cursor }) => [connection, cursor]),
    [[1, '1-5'], [1, '1-7'], [2, '1-8']])
})
