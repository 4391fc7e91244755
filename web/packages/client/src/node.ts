// What only Node has. Browsers never see this file.
import { open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { isCursor, type Cursor } from './cursor.js'
import { TailroomError } from './errors.js'
import type { CursorStorage } from './storage/storage.js'

/**
 * Keeps the cursor in a file of one client's own, whatever that subscribes to.
 * The file is replaced whole: after a crash it holds the last cursor or the one
 * before.
 */
export function fileCursor(path: string): CursorStorage {
  return {
    async open() {
      return {
        cursor: await read(path),
        save: (cursor) => replace(path, `${cursor}\n`),
        async close() {},
      }
    },
  }
}

async function read(path: string): Promise<Cursor | null> {
  let text
  try {
    text = (await readFile(path, 'utf8')).trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  if (!isCursor(text)) {
    throw new TailroomError({ code: 'storage', message: `${path} holds no cursor: put one there, such as 1-1042, or remove the file to begin anew` })
  }
  return text
}

/** Writes beside the file, to the disk, and puts it in its place in one step. */
async function replace(path: string, text: string): Promise<void> {
  const beside = `${path}.new`
  const file = await open(beside, 'w')
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(beside, path)
  if (process.platform === 'win32') return // folders cannot be synced there
  const folder = await open(dirname(path))
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
