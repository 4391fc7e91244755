// The transition table of SPEC.md: one case for each row and column.
import { initial, step } from '../../dist/machine.js'

const rules = { transports: ['websocket', 'sse'], snapshots: [], consumer: false }
const event = (position) => ({ cursor: `1-${position}`, position, type: 'newOrder', namespace: '/orders', data: {} })
const page = { namespace: '/orders', states: [], cursor: '1-12', more: false }
const reset = { reason: 'expired', oldest: '1-20', resume: '1-20', snapshot: '/v1/state' }
const message = (message) => (state) => ({ type: 'message', connection: state.connection, message })
const closed = (code) => (state) => ({ type: 'closed', connection: state.connection, code })
const timer = (name) => () => ({ type: 'timer', name })

/** Every state has received up to 1-10 and handled up to 1-9. */
function states({ transport = 'websocket', pinged = false, full = false, ...special }) {
  const base = {
    ...initial({ ...rules, ...special }), connection: 3, transport, full, cursor: '1-10', handled: '1-9', snapshots: [],
  }
  return {
    idle: [{ ...initial({ ...rules, ...special }) }],
    connecting: [{ ...base, phase: 'connecting' }],
    welcomed: ['replaying', 'live', 'degraded'].map((phase) => ({ ...base, phase, pinged })),
    waiting: [{ ...base, phase: 'waiting', attempt: 1 }],
    holding: [{ ...base, phase: 'holding', pinged }],
    closed: [{ ...base, phase: 'closed' }],
  }
}

export const columns = ['idle', 'connecting', 'welcomed', 'waiting', 'holding', 'closed']

/** The rows, by what the table calls them: the event, and what is special about the state. */
export const rows = {
  'start': [() => ({ type: 'start', cursor: '1-5' })],
  'welcome': [message({ type: 'welcome', cursor: '1-10', heartbeatMs: 25_000 })],
  'welcome, of a consumer': [message({ type: 'welcome', cursor: '1-10', heartbeatMs: 25_000 }), { consumer: true }],
  'welcome, backlog full': [message({ type: 'welcome', cursor: '1-10', heartbeatMs: 25_000 }), { full: true }],
  'welcome, backlog full, over SSE': [message({ type: 'welcome' }), { full: true, transport: 'sse' }],
  'events, new ones among them': [message({ type: 'events', events: [event(10), event(11)], cursor: '1-11' })],
  'events, all passed already': [message({ type: 'events', events: [event(9), event(10)], cursor: '1-10' })],
  'cursor, farther': [message({ type: 'cursor', cursor: '1-15' })],
  'cursor, passed already': [message({ type: 'cursor', cursor: '1-10' })],
  'live': [message({ type: 'live', cursor: '1-10' })],
  'reset': [message({ type: 'reset', ...reset })],
  'reset, with snapshots': [message({ type: 'reset', ...reset }), { snapshots: ['/orders'] }],
  'reset, with snapshots, over SSE': [message({ type: 'reset', ...reset }), { snapshots: ['/orders'], transport: 'sse' }],
  'snapshot': [message({ type: 'snapshot', ...page })],
  'degraded': [message({ type: 'degraded', reason: 'unavailable' })],
  'expiring': [message({ type: 'expiring', expiresAt: '2026-01-01T00:00:00Z' })],
  'goaway': [message({ type: 'goaway', reason: 'draining', delayMs: 500, cursor: '1-12' })],
  'error': [message({ type: 'error', code: 'overloaded', message: 'too many', retryAfterMs: 5_000 })],
  'reply, pong, unknown': [message({ type: 'pong' })],
  'heard': [(state) => ({ type: 'heard', connection: state.connection })],
  'anything of an older connection': [() => ({ type: 'closed', connection: 2, code: 1006 })],
  'closed, not for good': [closed(1006)],
  'closed, for good': [closed(4101)],
  'closed, too large': [closed(1009)],
  'timer deadline': [timer('deadline')],
  'timer silence': [timer('silence')],
  'timer silence, ping unanswered': [timer('silence'), { pinged: true }],
  'timer retry': [timer('retry')],
  'renewed': [(state) => ({ type: 'renewed', connection: state.connection })],
  'renewed, over SSE': [(state) => ({ type: 'renewed', connection: state.connection }), { transport: 'sse' }],
  'handled, farther': [() => ({ type: 'handled', cursor: '1-10' })],
  'handled, farther, of a consumer': [() => ({ type: 'handled', cursor: '1-10' }), { consumer: true }],
  'handled, passed already': [() => ({ type: 'handled', cursor: '1-9' })],
  'handled, a reset': [() => ({ type: 'handled', cursor: '1-4', reset: true })],
  'backlog full': [() => ({ type: 'backlog', full: true })],
  'backlog full, over SSE': [() => ({ type: 'backlog', full: true }), { transport: 'sse' }],
  'backlog drained': [() => ({ type: 'backlog', full: false })],
  'backlog drained, over SSE': [() => ({ type: 'backlog', full: false }), { transport: 'sse' }],
  'nudge': [() => ({ type: 'nudge' })],
  'nudge, over SSE': [() => ({ type: 'nudge' }), { transport: 'sse' }],
  'close': [() => ({ type: 'close' })],
  'close, over SSE': [() => ({ type: 'close' }), { transport: 'sse' }],
}

/** What the machine does, as the table writes it. `=` is the phase it was in; `welcomed` are three phases that do the same. */
export function cell(row, column) {
  const [make, special = {}] = rows[row]
  const done = states(special)[column].map((state) => [state, ...step(state, make(state))])
  const stays = done.every(([before, after]) => before.phase === after.phase)
  const texts = done.map(([, { phase }, effects]) => {
    const names = effects.map((effect) => effect.name ? `${effect.do} ${effect.name}` : effect.do)
    return [stays && names.length === 0 ? [] : stays ? ['='] : [phase], names.join(', ')].flat().join(' · ').replace(/ · $/, '')
  })
  return [...new Set(texts)].join(' or ')
}
