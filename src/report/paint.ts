import { styleText } from 'node:util';

/** Text in a colour, or as it is. The caller knows the stream: node's own check would look at standard output only. */
export function paint(colour: boolean, format: 'green' | 'red' | 'yellow' | 'dim', text: string): string {
  return colour ? styleText(format, text, { validateStream: false }) : text;
}
