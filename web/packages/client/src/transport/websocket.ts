// WebSocket with the subprotocol tailroom.v1: docs/protocol.md, section 6.
import type { ServerMessage } from '../protocol.js'
import { version } from '../version.js'
import type { Line, Listener, Opening, Transport } from './transport.js'

/** What is used of a WebSocket: the browser's own, Node's since 22, and that of the npm package ws. */
export interface WebSocketLike {
  onopen: ((event: any) => void) | null
  onmessage: ((event: any) => void) | null
  onclose: ((event: any) => void) | null
  onerror: ((event: any) => void) | null
  readonly readyState: number
  send(text: string): void
  close(code?: number): void
}

export type WebSocketConstructor = new (url: string, protocol: string) => WebSocketLike

const open = 1 // WebSocket.OPEN

export function webSocketTransport(WebSocket: WebSocketConstructor): Transport {
  return ({ url, ...hello }: Opening, listener: Listener): Line => {
    const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/v1/ws`, 'tailroom.v1')
    const send = (message: object) => {
      if (socket.readyState === open) socket.send(JSON.stringify(message))
    }
    socket.onopen = () => send({
      type: 'hello', ...hello, cursor: hello.cursor ?? undefined, client: { name: '@tailroom/client', version },
    })
    socket.onmessage = ({ data }: { data: unknown }) => {
      let message
      try {
        message = JSON.parse(String(data)) as ServerMessage
      } catch {
        return // the protocol has none that is no JSON; something in between put it there
      }
      listener.message(message)
    }
    socket.onclose = ({ code, reason }: { code: number; reason: string }) =>
      listener.closed(reason === '' ? { code } : { code, reason })
    socket.onerror = () => {} // a close follows, and says as much
    return {
      send,
      close() {
        socket.onmessage = socket.onclose = null
        socket.onopen = () => socket.close(1000)
        socket.close(1000)
      },
    }
  }
}
