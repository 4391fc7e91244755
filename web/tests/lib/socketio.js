// npm's socket.io-client as it is. A follower keeps what happens to a socket.
import { io } from 'socket.io-client'
import { api } from './api.js'
import { mint } from './token.js'

/** Those that tests need to be quick. All else is as a page has it that knows nothing of Tailroom. */
export const quick = { reconnectionDelay: 20, reconnectionDelayMax: 200 }

/** How long what must come about may take, in milliseconds. */
const patience = 30_000

/** What makes an instance notice soon, as by PING_INTERVAL and PING_TIMEOUT, that a client is not there. */
export const watchful = { TAILROOM_SOCKETIO_PING_INTERVAL: '500ms', TAILROOM_SOCKETIO_PING_TIMEOUT: '4s', TAILROOM_HEARTBEAT: '1s' }

/** A socket of a namespace on a connection of its own. */
export function follow(t, url, namespace, { token, ...options }) {
  return watch(t, io(url + namespace, { forceNew: true, auth: { token }, ...quick, ...options }))
}

/** Keeps what happens to a socket, until the test ends. */
export function watch(t, socket) {
  t.after(() => socket.disconnect())
  return new Follower(socket)
}

class Follower {
  /** What the page's handlers got: the type, then the arguments. */
  events = []
  /** The same of the events that Tailroom adds: their names begin with $. */
  news = []
  /** For each connect event, whether the socket was recovered, and its id. */
  connects = []
  /** For each connect_error, its message and data, and whether the socket tries again. */
  refusals = []
  /** For each disconnect, its reason, and whether the socket tries again. */
  ends = []
  #waiting = new Set()

  constructor(socket) {
    this.socket = socket
    socket.onAny((type, ...args) => this.#add(type.startsWith('$') ? this.news : this.events, [type, ...args]))
    socket.on('connect', () => this.#add(this.connects, { recovered: Boolean(socket.recovered), id: socket.id }))
    socket.on('connect_error', ({ message, data }) => this.#add(this.refusals, { message, data, active: socket.active }))
    socket.on('disconnect', (reason) => this.#add(this.ends, { reason, active: socket.active }))
  }

  #add(list, entry) {
    list.push(entry)
    for (const look of this.#waiting) look()
  }

  /** Resolves when something has come about, to what check returns of it. */
  until(check) {
    return new Promise((resolve, reject) => {
      const settle = (outcome, value) => {
        clearTimeout(timer)
        this.#waiting.delete(look)
        outcome(value)
      }
      const look = () => {
        const found = check(this)
        if (found) settle(resolve, found)
      }
      const timer = setTimeout(() => {
        const { socket, ...all } = this
        settle(reject, new Error(`in vain: ${check}; there is ${JSON.stringify(all)}`))
      }, patience)
      this.#waiting.add(look)
      look()
    })
  }

  /** Resolves when it has connected so many times. */
  connected(times = 1) {
    return this.until(() => this.connects.length >= times)
  }

  /** Resolves when it has lost its connection so many times. Who polls learns of a cut when he asks next. */
  lost(times = 1) {
    return this.until(() => this.ends.length >= times)
  }

  /** Resolves when so many events have come; more may have come by then. */
  received(count) {
    return this.until(() => this.events.length >= count)
  }

  /** Resolves when an event of the type has come, to its arguments. */
  async heard(type) {
    const [, ...args] = await this.until(() => [...this.events, ...this.news].find(([name]) => name === type))
    return args
  }

  /** Resolves when the server has said that all there was has come, which is after it was said so many times. */
  live(times = 1) {
    return this.until(() => this.news.filter(([type]) => type === '$live').length >= times)
  }

  /** The orders that came. */
  get orders() {
    return this.events.map(([, data]) => data.orderId)
  }
}

let companies = 0

/** A company for a test alone, so that tests share the instances. */
export function newCompany() {
  const companyId = `c${++companies}`
  const service = api(mint({ companyId, userRole: 'service' }))
  const operator = { Authorization: `Bearer ${mint({ companyId, userRole: 'admin' })}` }
  return {
    companyId,
    /** A page's token of the branch b7, or whose the claims say. */
    token: (claims) => mint({ companyId, branchId: 'b7', userRole: 'web', ...claims }),
    publish: service.publish,
    /** Publishes an order for each id. */
    order: (url, ...ids) => service.publishAll(url, ids.map((orderId) => ({ namespace: '/orders', type: 'newOrder', data: { orderId, branchId: 'b7' } }))),
    /** All that the log has of the company, parsed. */
    history: async (url) => (await service.history(url)).map((envelope) => JSON.parse(envelope)),
    /** What only an operator does: /v1/revocations, /v1/disconnections. */
    async operate(url, path, order) {
      const response = await fetch(url + path, { method: 'POST', headers: operator, body: JSON.stringify(order) })
      if (response.status !== 201) throw new Error(`${response.status}: ${await response.text()}`)
    },
    /** The company's sessions, as an operator sees them. */
    async connections(url) {
      const response = await fetch(`${url}/v1/connections`, { headers: operator })
      if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`)
      return (await response.json()).connections
    },
  }
}

/** Resolves when what is asked for again and again has come about, to what check returns of it. */
export async function eventually(check) {
  for (const begin = performance.now(); performance.now() - begin < patience;) {
    const found = await check()
    if (found) return found
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`in vain: ${check}`)
}
