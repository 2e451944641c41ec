/**
 * Information gain, less a price for every token of the thought:
 * rlp-ort train --reward length-penalty.mjs ...
 */
const PRICE = 0.01; // nats a token

/** @type {import('rlp-ort').RewardFunction} */
export default function lengthPenalty(thoughts) {
  return thoughts.map(({ builtInReward, thoughtTokens }) => builtInReward - PRICE * thoughtTokens.length);
}
