import { TailroomError } from './errors.js'
import { aborted } from './http.js'

/**
 * Tries again while the error says that it may be, after a random share of a
 * wait that doubles from one second to thirty (full jitter), and not before
 * the server wants it.
 */
export async function withRetry<Result>(attempt: () => Promise<Result>, signal: AbortSignal): Promise<Result> {
  for (let tries = 0; ; tries++) {
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof TailroomError) || !error.retriable || signal.aborted) throw error
      await pause((error.retryAfterMs ?? 0) + Math.random() * backoff(tries), signal)
    }
  }
}

/** The longest wait behind so many failures, in milliseconds. */
export function backoff(failures: number): number {
  return Math.min(30_000, 1_000 * 2 ** Math.min(failures, 16))
}

/** Waits, or fails when it is aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(aborted(signal))
    const cancel = () => {
      clearTimeout(timer)
      reject(aborted(signal))
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', cancel)
      resolve()
    }, ms)
    signal.addEventListener('abort', cancel, { once: true })
  })
}
