/** A piece of LaTeX, or of mathematics in plain letters. Commands keep their backslash. */
export interface Token {
  kind: 'number' | 'symbol' | 'command' | 'sign';
  text: string;
}

/** An answer without what is no part of the expression. */
export interface Stated {
  latex: string;
  /** What stands behind it: `cm`, `degrees`, `%`; in lower case without spaces, and empty if there is nothing. */
  unit: string;
}

/** Longer answers are not taken for mathematics. */
const MAX_LENGTH = 400;

const SPELLINGS: readonly (readonly [RegExp, string])[] = [
  [/\\(?:dfrac|tfrac|cfrac|nicefrac)(?![a-zA-Z])/g, '\\frac'],
  [/\\[dt]binom(?![a-zA-Z])/g, '\\binom'],
  [/\\(?:left|right|big|Big|bigg|Bigg|bigl|bigr|displaystyle|textstyle|limits)(?![a-zA-Z])\.?/g, ''],
  [/(?<=\d)(?:,\\!|\{,\}|\\[,!;])(?=\d{3}(?!\d))/g, ''],
  [/\\(?:quad|qquad)(?![a-zA-Z])|(?<!\\)\\[,!;: ]|~/g, ' '],
  [/\\(?:lvert|rvert|vert|mid)(?![a-zA-Z])/g, '|'],
  [/\\(?:lbrace)(?![a-zA-Z])/g, '\\{'],
  [/\\(?:rbrace)(?![a-zA-Z])/g, '\\}'],
  [/\\(?:leqslant|leq)(?![a-zA-Z])|≤|<=/g, '\\le '],
  [/\\(?:geqslant|geq)(?![a-zA-Z])|≥|>=/g, '\\ge '],
  [/\\neq(?![a-zA-Z])|≠/g, '\\ne '],
  [/\\(?:lt)(?![a-zA-Z])/g, '<'],
  [/\\(?:gt)(?![a-zA-Z])/g, '>'],
  [/\\(?:cdot|times|ast)(?![a-zA-Z])|[×·∙]|\*(?!\*)/g, '*'],
  [/\\div(?![a-zA-Z])|÷/g, '/'],
  [/[−–]/g, '-'],
  [/π/g, '\\pi '],
  [/∞/g, '\\infty '],
  [/∪/g, '\\cup '],
  [/∩/g, '\\cap '],
  [/√/g, '\\sqrt '],
  [/±/g, '\\pm '],
  [/²/g, '^2'],
  [/³/g, '^3'],
  // A digit each; ^12 and \sqrt12 are taken as models mean them.
  [/\\frac ?(\d) ?(\d)/g, '\\frac{$1}{$2}'],
  [/(\d) (\d+)\/(\d+)/g, '$1 \\frac{$2}{$3}'],
];

const TEXT = /\\(?:text|textrm|textbf|textit|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}/;

/** Takes enclosing signs, units and spellings that mean nothing off an answer; undefined if it is too long to be one. */
export function stated(answer: string): Stated | undefined {
  if (answer.length > MAX_LENGTH) return undefined;
  let latex = answer
    .normalize()
    .replace(/\s+/g, ' ')
    .trim()
    .replace(/[.,;]$/, '');
  for (const [open, close] of [
    ['$$', '$$'],
    ['$', '$'],
    ['\\(', '\\)'],
    ['\\[', '\\]'],
  ]) {
    if (latex.length > open.length + close.length && latex.startsWith(open) && latex.endsWith(close)) {
      latex = latex.slice(open.length, -close.length).trim();
    }
  }
  latex = latex
    .replace(/[.,;]$/, '')
    .replace(/\\?\$/g, '')
    .replaceAll('**', '^');
  for (const [pattern, spelling] of SPELLINGS) latex = latex.replaceAll(pattern, spelling);
  latex = latex.replaceAll(/(\d*)\.(\d*)\\overline ?\{(\d+)\}/g, (_, whole, fixed, repeated) =>
    repeating(whole, fixed, repeated),
  );
  let unit = '';
  latex = latex.replace(/\^ ?\{? ?\\circ ?\}?|\\degree(?![a-zA-Z])|°/g, () => {
    unit = 'degree';
    return ' ';
  });
  for (const pattern of UNITS) {
    const match = pattern.exec(latex);
    if (match === null) continue;
    latex = match[1];
    unit =
      match
        .slice(2)
        .join('')
        .replace(/[\s{}]+/g, '')
        .toLowerCase()
        .replace(/s$/, '') || unit;
  }
  return { latex: latex.trim(), unit };
}

/** Units of two letters; longer words behind a number are taken for units whatever they are. */
const SHORT_UNITS = 'cm|mm|km|kg|mg|ml|ft|in|mi|hr|hz|pm|am|yd|lb|oz';
const NO_UNITS = 'sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|exp|sqrt|and|infinity|inf';
const UNITS: readonly RegExp[] = [
  /^(.*?) ?\\?(%)$/,
  // 10\text{ cm}^2, but not \text{cm} alone
  new RegExp(`^(.*\\S) ?${TEXT.source} ?(\\^ ?\\{?-?\\d\\}?)?$`),
  new RegExp(`^([-+]?[\\d.,/ ]*\\d) (?!(?:${NO_UNITS})\\b)((?:${SHORT_UNITS}|[a-zA-Z]{3,})(?: [a-zA-Z]+)*)(\\^\\d)?$`),
];

/** 0.1666... of 0.1\overline{6} as a fraction. */
function repeating(whole: string, fixed: string, repeated: string): string {
  const once = BigInt(whole + fixed || 0);
  const twice = BigInt(whole + fixed + repeated);
  const scale = 10n ** BigInt(fixed.length);
  return `\\frac{${twice - once}}{${scale * (10n ** BigInt(repeated.length) - 1n)}}`;
}

/** Names that stand for commands where the backslash has been left out. */
const NAMES: Readonly<Record<string, string>> = Object.fromEntries([
  ...['sin', 'cos', 'tan', 'cot', 'sec', 'csc', 'arcsin', 'arccos', 'arctan', 'sinh', 'cosh', 'tanh'].map((name) => [
    name,
    `\\${name}`,
  ]),
  ...['ln', 'log', 'exp', 'sqrt', 'pi'].map((name) => [name, `\\${name}`]),
  ...[
    ['infinity', '\\infty'],
    ['inf', '\\infty'],
    ['or', ','],
    ['and', ','],
  ],
]);

/** The tokens of an answer; undefined if it has words or signs that are no mathematics. */
export function tokenize(latex: string): Token[] | undefined {
  const tokens: Token[] = [];
  let depth = 0;
  for (let rest = latex; rest !== ''; ) {
    const text = TEXT.exec(rest);
    if (text?.index === 0) {
      const word = NAMES[text[1].trim()];
      if (word === undefined) return undefined;
      tokens.push({ kind: word === ',' ? 'sign' : 'command', text: word });
      rest = rest.slice(text[0].length);
      continue;
    }
    // 1,000 is a number where no bracket makes a list of it.
    const number =
      (depth === 0 ? /^\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?/.exec(rest) : null) ??
      /^(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3}(?!\d))?/.exec(rest);
    const command = /^\\(?:(?:begin|end) ?\{[pbvBV]?matrix\}|[a-zA-Z]+|[{}|\\])/.exec(rest);
    const letters = /^[a-zA-Z]+/.exec(rest);
    const found = (number ?? command ?? letters)?.[0] ?? rest[0];
    rest = rest.slice(found.length);
    if (number !== null) tokens.push({ kind: 'number', text: found.replaceAll(',', '') });
    else if (command !== null) {
      const sign = found === '\\{' || found === '\\}' || found === '\\\\';
      if (found === '\\{' || found === '\\}') depth += found === '\\{' ? 1 : -1;
      tokens.push({ kind: sign ? 'sign' : 'command', text: found === '\\|' ? '|' : found });
    } else if (letters !== null) {
      const word = NAMES[found] ?? NAMES[found.toLowerCase()];
      if (word !== undefined) tokens.push({ kind: word === ',' ? 'sign' : 'command', text: word });
      // A word is no product of its letters: east is not seat.
      else if (found.length > 2) return undefined;
      else for (const name of found) tokens.push({ kind: 'symbol', text: name });
    } else if (found === ' ') {
      // nothing
    } else if ('+-*/^_=<>()[]{}|!,&'.includes(found)) {
      if ('(['.includes(found)) depth++;
      if (')]'.includes(found)) depth--;
      tokens.push({ kind: 'sign', text: found });
    } else return undefined;
  }
  return tokens;
}
