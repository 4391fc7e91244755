import { createHmac } from 'node:crypto'

/** What the tests' instances check tokens with. */
export const secret = 'a secret that is long enough for tests'

/** A token that is good for an hour. */
export function mint(claims) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url')
  const exp = Math.floor(Date.now() / 1000) + 3600
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ sub: 'web-tests', exp, ...claims })}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}
