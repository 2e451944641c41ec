import { Float16Array } from '@petamoriken/float16';
import { describe, expect, it } from 'vitest';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '../src/dtypes.ts';

const allBits = Uint16Array.from({ length: 65536 }, (_, i) => i);
const bitsOf = (values: Float16Array) => new Uint16Array(values.buffer as ArrayBuffer);

describe('float16', () => {
  it('goes to float32 and back for every bit pattern', () => {
    const values = float16ToFloat32(allBits);
    expect(values).toEqual(Float32Array.from(new Float16Array(allBits.buffer)));
    const back = float32ToFloat16(values);
    // The payloads of NaN are not kept.
    const expected = (bits: number) => (Number.isNaN(values[bits]) ? 0x7e00 : bits);
    const found = (bits: number) => (Number.isNaN(values[bits]) ? back[bits] & 0x7fff : back[bits]);
    expect(allBits.filter((bits) => found(bits) !== expected(bits))).toHaveLength(0);
  });

  it('rounds to nearest even, next to every tie', () => {
    const exact = float16ToFloat32(allBits.subarray(0, 0x7c00));
    const inputs: number[] = [];
    for (let i = 0; i + 1 < exact.length; i++) {
      const tie = (exact[i] + exact[i + 1]) / 2;
      const bits = new Uint32Array(Float32Array.of(tie).buffer)[0];
      for (const near of new Float32Array(Uint32Array.of(bits - 1, bits, bits + 1).buffer)) inputs.push(near, -near);
    }
    inputs.push(65519.996, 65520, 65536, 1e38, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e-40, -0);
    const values = Float32Array.from(inputs);
    expect(float32ToFloat16(values)).toEqual(bitsOf(Float16Array.from(values)));
  });

  it('works on a view into a larger buffer', () => {
    const values = Float32Array.of(9, 1, -2, 9).subarray(1, 3);
    expect(float32ToFloat16(values)).toEqual(Uint16Array.of(0x3c00, 0xc000));
    expect(float16ToFloat32(Uint16Array.of(0, 0x3c00, 0xc000).subarray(1))).toEqual(values);
  });
});

describe('bfloat16', () => {
  it('goes to float32 and back for every bit pattern but signalling NaNs, which become quiet', () => {
    const values = bfloat16ToFloat32(allBits);
    const back = float32ToBfloat16(values);
    const wrong = allBits.filter((bits) => back[bits] !== (Number.isNaN(values[bits]) ? bits | 0x40 : bits));
    expect(wrong).toHaveLength(0);
  });

  it('rounds to nearest even', () => {
    const values = new Float32Array(Uint32Array.of(0x3f808000, 0x3f818000, 0x3f808001, 0x3f817fff, 0x7f7fffff).buffer);
    expect(float32ToBfloat16(values)).toEqual(Uint16Array.of(0x3f80, 0x3f82, 0x3f81, 0x3f81, 0x7f80));
  });
});
