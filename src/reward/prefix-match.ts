import { lastBoxed } from '../answer-match.ts';
import { internal } from '../errors.ts';

/**
 * The reward of RPT (Dong et al., arXiv 2506.08007, eq. 2): 1 if the bytes of the prediction are a prefix of those of the true
 * continuation and end where one of its tokens ends, else 0.
 *
 * Degenerate: an empty prediction is 0, and so is one that is longer than the continuation. A character whose bytes lie in several
 * tokens may be predicted in part, as far as one of them goes: bytes are compared, not characters.
 *
 * @param continuation bytes of each token of the true continuation, in order; at least one token
 */
export function prefixMatchReward(prediction: Uint8Array, continuation: readonly Uint8Array[]): 0 | 1 {
  if (continuation.length === 0) throw internal('a prediction of nothing');
  if (prediction.length === 0) return 0;
  let end = 0;
  for (const token of continuation) {
    if (token.some((byte, i) => prediction[end + i] !== byte)) return 0;
    end += token.length;
    if (end === prediction.length) return 1;
  }
  return 0;
}

/**
 * The text that an answer states, as bytes: with 'boxed' the content of its last \boxed{} that closes (nothing where there is
 * none), with 'text' all of it. Nothing is trimmed: a space may be part of what comes next.
 */
export function statedText(answer: Uint8Array, kind: 'boxed' | 'text'): Uint8Array {
  if (kind === 'text') return answer;
  // Latin-1 has a character for every byte, and the box is ASCII: half a character in it stays what it is.
  return Buffer.from(lastBoxed(Buffer.from(answer).toString('latin1')) ?? '', 'latin1');
}
