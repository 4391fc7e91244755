import type { Cursor } from './cursor.js'
import { TailroomError } from './errors.js'
import type { Token } from './http.js'
import type { TransportName } from './machine.js'
import type { Subscription } from './protocol.js'
import type { CursorStorage } from './storage/storage.js'
import type { WebSocketConstructor } from './transport/websocket.js'
import type { NamespaceOf, SubscriptionOf } from './types.js'

export interface ConnectOptions<C> {
  /** The server's address: `https://tailroom.example.com`. */
  url: string
  /** A token, or how to get one. It is asked for each connection, and when the last one is about to expire. */
  token: Token
  /** Namespaces, with rooms and snapshots where they matter. All go over one connection. */
  subscribe: readonly (NamespaceOf<C> | SubscriptionOf<C>)[]
  /** Where to begin if nothing is kept: `now` (the default), `earliest`, or a cursor. */
  from?: 'now' | 'earliest' | Cursor
  /** Keeps the cursor between two lives of the client. Without it the client begins at `from`, or where its consumer was. */
  cursor?: CursorStorage
  /** The name of the consumer whose acknowledged cursor the server keeps. */
  consumer?: string
  /**
   * When an event counts as done: `handled` (the default), when its handlers have returned and what they promised is
   * there; `manual`, when `ack` says so. What is done is kept and acknowledged.
   */
  ack?: 'handled' | 'manual'
  /** The company, for a token that is good for all of them. */
  companyId?: string
  /** The one transport to use. By default WebSocket, and server-sent events where it does not get through. */
  transport?: TransportName
  /** Where the platform has none of its own: Node before 22. That of the package ws fits. */
  WebSocket?: WebSocketConstructor
}

/** What is subscribed to, in full. */
export function subscriptions(list: readonly (string | Subscription)[]): Subscription[] {
  if (list.length === 0) throw new TypeError('subscribe names at least one namespace')
  return list.map((entry) => typeof entry === 'string' ? { namespace: entry } : entry)
}

/** The platform's WebSocket, if there is one. */
export function findWebSocket(options: { WebSocket?: WebSocketConstructor }): WebSocketConstructor | undefined {
  return options.WebSocket ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket
}

/** The transports that can be used, in the order in which they are tried. */
export function transports(
  { transport, consumer }: { transport?: TransportName; consumer?: string }, WebSocket: WebSocketConstructor | undefined,
): TransportName[] {
  if (transport === 'sse' && consumer !== undefined) {
    throw new TypeError('a consumer acknowledges what it has handled, which server-sent events cannot carry: leave transport out')
  }
  const needed = transport === 'websocket' || consumer !== undefined
  if (needed && !WebSocket) {
    throw new TailroomError({
      code: 'no_websocket',
      message: 'this platform has no WebSocket of its own (Node has one from 22 on): pass one as WebSocket, such as that of the npm package ws',
    })
  }
  if (needed) return ['websocket']
  return transport === 'sse' || !WebSocket ? ['sse'] : ['websocket', 'sse']
}

/** What a kept cursor is for: it is shared by those who subscribe to the same. */
export function scopeOf(url: string, companyId: string | undefined, list: readonly Subscription[]): string {
  const parts = list.map(({ namespace, rooms }) => [namespace, ...[...(rooms ?? ['*'])].sort()].join(' ')).sort()
  return [url, ...(companyId === undefined ? [] : [companyId]), ...parts].join('|')
}
