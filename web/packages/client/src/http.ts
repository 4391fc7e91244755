// The HTTP interface: docs/protocol.md, sections 3 and 4.
import { TailroomError } from './errors.js'
import type { Problem } from './protocol.js'

/** A token, or how to get one. It is asked again when the last one has expired. */
export type Token = string | (() => string | Promise<string>)

export interface HttpOptions {
  url: string
  token: Token
}

/** Requests with a token, which is renewed when the server says that it has expired. */
export class Http {
  readonly url: string
  readonly #source: Token
  #token: Promise<string> | undefined

  constructor({ url, token }: HttpOptions) {
    this.url = address(url)
    this.#source = token
  }

  /** The token of the last time, or another one. */
  token(renew: boolean): Promise<string> {
    if (renew) this.#token = undefined
    this.#token ??= this.#ask()
    return this.#token
  }

  async #ask(): Promise<string> {
    try {
      const token = typeof this.#source === 'function' ? await this.#source() : this.#source
      if (typeof token !== 'string' || token === '') throw new TypeError('token() gave no token')
      return token
    } catch (cause) {
      this.#token = undefined
      throw cause
    }
  }

  /** Sends a body and gives the answer; what is refused is a TailroomError. */
  async send(path: string, init: RequestInit): Promise<Response> {
    try {
      return await request(this.url + path, await this.token(false), init)
    } catch (error) {
      if (!(error instanceof TailroomError) || error.code !== 'token_expired') throw error
    }
    return request(this.url + path, await this.token(true), init)
  }

  async json(path: string, init: RequestInit): Promise<unknown> {
    const response = await this.send(path, init)
    try {
      return await response.json()
    } catch (cause) {
      throw networkError(cause)
    }
  }
}

/** One request. A refusal, a dead line and an abort are TailroomErrors. */
export async function request(url: string, token: string, init: RequestInit): Promise<Response> {
  let response
  try {
    response = await fetch(url, { cache: 'no-store', ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } })
  } catch (cause) {
    if (init.signal?.aborted) throw aborted(init.signal)
    throw networkError(cause)
  }
  if (response.ok) return response
  throw new TailroomError(await problem(response), { status: response.status })
}

/** The server's reason; who else answers has only a status. */
async function problem(response: Response): Promise<Problem> {
  const after = Number(response.headers.get('Retry-After') ?? NaN)
  const retry = Number.isFinite(after) ? { retryAfterMs: after * 1000 } : {}
  const body: unknown = await response.json().catch(() => undefined)
  if (typeof body === 'object' && body !== null && 'code' in body && typeof body.code === 'string') {
    const { detail, title, ...rest } = body as Record<string, unknown>
    return { ...retry, ...rest, code: body.code, message: String(detail ?? title ?? body.code) }
  }
  const code = response.status === 429 ? 'rate_limited' : response.status >= 500 ? 'unavailable' : `http_${response.status}`
  return { ...retry, code, message: `${new URL(response.url).host} answered ${response.status}, and is perhaps not Tailroom` }
}

export function networkError(cause: unknown): TailroomError {
  return new TailroomError({ code: 'network', message: 'the server could not be reached, or the line broke' }, { cause })
}

export function aborted(signal: AbortSignal): TailroomError {
  return new TailroomError({ code: 'aborted', message: 'it was aborted; whether it was done is not known' }, { cause: signal.reason })
}

/** The server's address without a slash at its end. */
function address(url: string): string {
  const parsed = new URL(url)
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') {
    throw new TypeError(`the server's url begins with http:// or https://, not ${parsed.protocol}//`)
  }
  return (parsed.origin + parsed.pathname).replace(/\/+$/, '')
}
