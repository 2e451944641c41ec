/**
 * The instruction before the text that `--prompt instruction` stands for. RLP's authors put one there (arXiv 2510.01265); the
 * wording is ours. It ends with a blank line, behind which the text begins.
 */
export const instruction = (open: string, close: string): string =>
  `You continue texts. You are given the beginning of one. Think first, briefly and between ${open} and ${close}, about ` +
  'what comes next and why; then go on with the text itself, in the same style and without a comment.\n\n';

/** The same for RPT, whose prediction stands in a box; our wording, too. */
export const predictionInstruction = (open: string, close: string): string =>
  `You predict how texts go on. You are given the beginning of one. Think first, between ${open} and ${close}, about what comes ` +
  'next and why; then write the very next piece of the text, letter by letter as it would stand there, with the spaces at its ' +
  'ends, into \\boxed{}.\n\n';

/** Text before every document: none, our instruction, or the text as it is given. */
export function promptText(
  setting: string,
  open: string,
  close: string,
  instruct: typeof instruction = instruction,
): string {
  if (setting === 'none') return '';
  return setting === 'instruction' ? instruct(open, close) : setting;
}
