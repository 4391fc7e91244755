// The state machine against a model of the server, under whatever can go wrong:
// lines are cut, go dead and lose what is under way, instances drain, tokens run
// out, the log is retained, failed over and replayed from too far back, and the
// client is killed and begins anew. fast-check chooses what happens, and finds
// the shortest history that breaks a promise of SPEC.md.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compareCursors, isCursor } from '../dist/cursor.js'
import { initial, step } from '../dist/machine.js'

const before = (a, b) => compareCursors(a, b) < 0

/** A log with retention and failover. Lost events stay known, marked as lost, so that the checks can tell. */
class Log {
  epoch = 1
  position = 0
  floor = '1-0'
  events = [] // {cursor, lost}
  survived = [] // of epochs that ended: {epoch, position}

  get end() { return `${this.epoch}-${this.position}` }
  get kept() { return this.events.filter((event) => !event.lost) }

  publish(count) {
    for (let i = 0; i < count; i++) this.events.push({ cursor: `${this.epoch}-${++this.position}`, lost: false })
  }

  /** Drops what is old; what was dropped is still in the past of those who have received it. */
  retain(share) {
    const { kept } = this
    const floor = kept[Math.floor(share * (kept.length - 1))]?.cursor
    if (floor && before(this.floor, floor)) this.floor = floor
  }

  failOver(lost) {
    const { kept } = this
    const gone = kept.slice(kept.length - lost).filter((event) => before(this.floor, event.cursor))
    for (const event of gone) event.lost = true
    const last = this.kept.at(-1)?.cursor ?? this.floor
    this.position = Math.min(this.position, Number(last.split('-')[1]))
    this.survived.push({ epoch: this.epoch++, position: this.position })
  }

  /** Where a session begins, and the reset it is told first. */
  locate(cursor) {
    if (cursor === null || cursor === 'now') return { cursor: this.end }
    if (cursor === 'earliest') return { cursor: this.floor }
    const [epoch, position] = cursor.split('-').map(Number)
    const end = this.survived.filter((past) => past.epoch >= epoch).reduce((low, past) => Math.min(low, past.position), this.position)
    if (position > end) return this.reset('diverged', before(`${epoch}-${end}`, this.floor) ? this.floor : `${epoch}-${end}`)
    if (before(cursor, this.floor)) return this.reset('expired', this.floor)
    return { cursor }
  }

  reset(reason, resume) { return { cursor: resume, reset: { type: 'reset', reason, oldest: this.floor, resume, snapshot: '/v1/state' } } }
}

/** One client after the other, on a line that loses things, with an application that takes its time. */
class World {
  log = new Log()
  stored = null
  handled = new Set() // cursors, over all lives
  excused = [] // [from, to]: what a reset said is missing
  lives = 0
  resets = 0
  late = [] // what a line had when it broke

  constructor() { this.begin() }

  begin() {
    this.lives++
    this.state = initial({ transports: ['websocket', 'sse'], snapshots: [], consumer: false })
    this.timers = new Set()
    this.session = null
    this.late = []
    this.down = [] // on their way to the client
    this.queue = [] // delivered, to be handled
    this.full = false // and that is more than may be
    this.reached = this.stored // up to where this life has delivered
    this.tell({ type: 'start', cursor: this.stored ?? 'earliest' })
  }

  tell(event) {
    if (event.type === 'backlog') this.full = event.full
    const [state, effects] = step(this.state, event)
    this.state = state
    for (const effect of effects) this[effect.do]?.(effect)
  }

  connect({ connection, cursor }) {
    this.lose()
    this.asked = { connection, cursor }
  }

  disconnect() { this.lose() }
  unfollow() { this.state.transport === 'websocket' ? this.session && (this.session.paused = true) : this.lose() }
  timer({ name }) { this.timers.add(name) }
  stop({ name }) { this.timers.delete(name) }

  deliver({ events, cursor }) {
    assert.ok(!this.full || events.length === 0, 'what waits is bounded, over connections as well')
    assert.ok(this.reached === null || before(this.reached, cursor), `${cursor} lies behind ${this.reached}`)
    const known = new Map(this.log.events.map((event) => [event.cursor, event]))
    const inside = (at) => (this.reached === null || before(this.reached, at)) && !before(cursor, at)
    for (const event of events) assert.ok(known.has(event.cursor) && inside(event.cursor), `${event.cursor} is delivered out of turn`)
    const cursors = events.map((event) => event.cursor)
    assert.deepEqual(cursors, [...new Set(cursors)].sort(compareCursors), 'once, in order')
    const missing = this.log.kept.filter((event) => inside(event.cursor) && before(this.began, event.cursor) && !cursors.includes(event.cursor))
    assert.deepEqual(missing, [], `${this.reached} → ${cursor} skips events`)
    this.reached = cursor
    this.queue.push(...cursors.map((at) => ({ at })), { at: cursor })
    for (const item of this.queue.slice(-cursors.length - 1, -1)) item.event = true
  }

  reset({ reset }) {
    this.resets++
    if (this.reached === null || before(this.reached, reset.resume)) this.excused.push([this.reached, reset.resume])
    this.reached = reset.resume
    this.queue.push({ at: reset.resume, reset: true })
  }

  store({ cursor, reset }) {
    assert.ok(reset || this.stored === null || before(this.stored, cursor), 'what is kept only grows')
    this.stored = cursor
    const excused = (at) => this.excused.some(([from, to]) => (from === null || before(from, at)) && !before(to, at))
    const skipped = this.log.kept.filter((event) => !before(cursor, event.cursor) && before(this.began, event.cursor)
      && !this.handled.has(event.cursor) && !excused(event.cursor))
    assert.deepEqual(skipped, [], `${cursor} is kept and these are not done`)
  }

  /** What the server does. */

  welcome() {
    if (!this.asked) return
    const { connection, cursor } = this.asked
    this.asked = null
    const { cursor: begin, reset } = this.log.locate(cursor)
    if (!isCursor(cursor)) this.began = begin // before that nothing is promised
    this.session = { connection, cursor: begin, epoch: this.log.epoch }
    this.say({ type: 'welcome', cursor: begin, heartbeatMs: 1_000 })
    if (reset) this.say(reset)
  }

  say(message) { this.down.push({ connection: this.session.connection, message }) }

  /** A session that was connected when the log failed over, or was left behind by retention, is told. */
  checkPast() {
    const { cursor, reset } = this.log.locate(this.session.cursor)
    if (reset) {
      this.session.cursor = cursor
      this.say(reset)
    }
  }

  push(count, from = this.session?.cursor) {
    if (!this.session || this.session.paused) return
    this.checkPast()
    const start = from && before(from, this.session.cursor) ? from : this.session.cursor
    const events = this.log.kept.filter((event) => before(start, event.cursor) && !before(event.cursor, this.log.floor)).slice(0, count)
    if (events.length === 0) {
      this.session.cursor = this.log.end
      return this.say({ type: 'live', cursor: this.log.end })
    }
    const last = events.at(-1).cursor
    if (before(this.session.cursor, last)) this.session.cursor = last
    this.say({ type: 'events', events, cursor: last })
  }

  close(code) {
    if (!this.session) return
    if (code === 1001) this.say({ type: 'goaway', reason: 'draining', delayMs: 100, cursor: this.session.cursor })
    this.down.push({ connection: this.session.connection, code })
    this.session = null
  }

  /** What the network and the application do. */

  receive(count) {
    for (const { connection, message, code } of this.down.splice(0, count)) {
      this.tell(message ? { type: 'message', connection, message } : { type: 'closed', connection, code })
    }
  }

  cut() {
    const connection = this.session?.connection ?? this.asked?.connection
    this.lose()
    if (connection !== undefined) this.tell({ type: 'closed', connection, code: 1006 })
  }

  /** The line is gone, and the client does not know yet. */
  lose() {
    this.late.push(...this.down.splice(0))
    this.asked = this.session = null
  }

  /** What was lost comes after all, of connections that are no more. */
  straggle() {
    this.down.unshift(...this.late.splice(0).filter(({ connection }) => connection !== this.state.connection))
    this.receive(Infinity)
  }

  ring(name) {
    if (this.timers.delete(name)) this.tell({ type: 'timer', name })
  }

  work(count) {
    for (const { at, event, reset } of this.queue.splice(0, count)) {
      if (event) this.handled.add(at)
      this.tell({ type: 'handled', cursor: at, ...(reset ? { reset } : {}) })
    }
  }

  /** Whether a handler that publishes gets its answer. */
  get answers() {
    const { phase, transport, connection } = this.state
    if (phase === 'holding' && transport === 'sse') return true // over HTTP
    return ['replaying', 'live', 'degraded', 'holding'].includes(phase) && this.session?.connection === connection
  }

  /** Everything that is broken is mended, and everybody waits. */
  settle() {
    for (let i = 0; i < 200; i++) {
      this.receive(Infinity)
      if (this.answers) this.work(Infinity)
      if (this.queue.length === 0) this.tell({ type: 'backlog', full: false })
      if (this.state.phase === 'waiting') this.ring('retry')
      this.welcome()
      if (!this.session && this.state.phase !== 'waiting') for (const name of ['deadline', 'silence']) this.ring(name)
      this.push(3)
      if (this.state.phase === 'live' && this.state.cursor === this.log.end && this.down.length <= 1) return
    }
    assert.fail(`it does not come to the end: ${JSON.stringify(this.state)}`)
  }
}

const number = (max) => fc.integer({ min: 1, max })
const op = (name, ...args) => fc.tuple(fc.constant(name), ...args)
const history = fc.array(fc.oneof(
  { weight: 6, arbitrary: op('publish', number(5)) },
  { weight: 6, arbitrary: op('welcome') },
  { weight: 8, arbitrary: op('push', number(4)) },
  { weight: 2, arbitrary: op('replay', number(8)) },
  { weight: 8, arbitrary: op('receive', number(6)) },
  { weight: 6, arbitrary: op('work', number(6)) },
  { weight: 2, arbitrary: op('cut') },
  { weight: 1, arbitrary: op('lose') },
  { weight: 1, arbitrary: op('close', fc.constantFrom(1001, 1009, 1011, 1013, 4000, 4002)) },
  { weight: 2, arbitrary: op('straggle') },
  { weight: 4, arbitrary: op('ring', fc.constantFrom('retry', 'silence', 'deadline')) },
  { weight: 1, arbitrary: op('retain', fc.double({ min: 0, max: 1, noNaN: true })) },
  { weight: 1, arbitrary: op('failOver', number(4)) },
  { weight: 1, arbitrary: op('tell', fc.constantFrom({ type: 'backlog', full: true }, { type: 'backlog', full: false }, { type: 'nudge' })) },
  { weight: 1, arbitrary: op('begin') }, // killed: what was delivered and not handled is gone
), { maxLength: 150, size: 'max' })

/** Lets a history happen, and then everything come to rest. */
function live(operations) {
  const world = new World()
  for (const [name, argument] of operations) {
    if (name === 'replay') world.push(argument, world.log.kept.at(-argument)?.cursor)
    else if (name === 'retain' || name === 'failOver') world.log[name](argument)
    else if (name === 'publish') world.log.publish(argument)
    else world[name](argument)
  }
  world.log.publish(1)
  world.settle()
  assert.ok(isCursor(world.stored))
  return world
}

test('whatever happens, every event is delivered once, in order, and what is kept is done', () => {
  const seen = { lives: 0, resets: 0, events: 0 }
  fc.assert(fc.property(history, (operations) => {
    const world = live(operations)
    seen.lives += world.lives
    seen.resets += world.resets
    seen.events += world.handled.size
    assert.ok(world.handled.has(world.log.kept.at(-1).cursor))
  }), { numRuns: 1_500 })
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 100, `too few ${what} to show anything: ${count}`)
})
