import { describe, expect, it } from 'vitest';
import { needsPosition } from '../../src/data/positions.ts';
import { tokenizeDocument, tokenizeDocuments } from '../../src/data/tokenize.ts';
import { byteTokenizer, documentOf, mergingTokenizer } from './fixture.ts';

describe('tokenizeDocument', () => {
  it('maps a position to the first token that starts at or after its character', () => {
    // Tokens: ab | c | 日 | three bytes of 本 | ab
    const document = documentOf('abc日本ab', { positions: [6, 1, 2, 3, 4, 5, 0] });
    // 1 is inside "ab": "c" follows. 6 is inside the last token: nothing follows.
    expect(tokenizeDocument(document, mergingTokenizer(['ab', '日'])).listedPositions).toEqual([0, 1, 2, 3, 6]);
  });

  it('goes on to a token inside a character where a token holds the start of it', () => {
    const joined = mergingTokenizer([Buffer.from('日本').subarray(0, 4)]);
    expect(tokenizeDocument(documentOf('日本', { positions: [1] }), joined).listedPositions).toEqual([1]);
  });

  it('maps positions in text that the tokenizer normalizes', () => {
    // Characters: e, combining acute, x, y. Tokens: é | x | y
    const document = documentOf('e\u0301xy', { positions: [2, 3] });
    expect(tokenizeDocument(document, mergingTokenizer(['é'])).listedPositions).toEqual([1, 2]);
    const inside = documentOf('e\u0301xy', { positions: [1] });
    expect(tokenizeDocument(inside, mergingTokenizer(['é'])).listedPositions).toEqual([1]);
  });

  it('has no list where the data gives none', () => {
    expect(tokenizeDocument(documentOf('ab'), byteTokenizer())).toEqual({ id: 'a', tokens: Int32Array.of(97, 98) });
  });
});

describe('tokenizeDocuments', () => {
  const documents = ['a', 'bcd', 'efghi'].map((text, i) =>
    documentOf(text, { id: text, positions: [text.length - 1], source: { file: 'f', row: i + 1 } }),
  );

  it('cuts to the window, leaves out and counts', async () => {
    const requirement = needsPosition('uniform', { horizon: 1 });
    const data = await tokenizeDocuments(documents, byteTokenizer(), { maxContextTokens: 4, requirement });
    expect(data).toEqual({
      documents: [
        { id: 'bcd', tokens: Int32Array.of(98, 99, 100), listedPositions: [2] },
        { id: 'efghi', tokens: Int32Array.of(101, 102, 103, 104), listedPositions: [] },
      ],
      tokens: 7,
      skipped: 1,
      truncated: 1,
    });
  });

  it('fails when nothing is left', async () => {
    const requirement = needsPosition('uniform', { horizon: 5 });
    await expect(tokenizeDocuments(documents, byteTokenizer(), { requirement })).rejects.toThrow(
      'the data has no documents to use: none of the 3 has a position to think at, which takes at least 6 tokens ' +
        '(1 before, 5 after) (the first, f:1, has 1)',
    );
    await expect(tokenizeDocuments([], byteTokenizer())).rejects.toThrow('the data has no documents to use');
  });

  it('refuses two documents of one id', async () => {
    await expect(tokenizeDocuments([documents[0], documents[0]], byteTokenizer())).rejects.toThrow(
      'f:1: the id "a" is also that of f:1',
    );
  });
});
