#include "eval/softmax_sum.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "calque/core/instruction_set.h"
#include "eval/exponential.h"
#include "eval/strip_loops.h"

namespace calque::eval {
namespace {

// Two units in the last place, which is what the header promises.
TEST(Exponential, AgreesWithTheLibrarys) {
  for (double x = 0; x > -708; x -= 0.0371)
    EXPECT_NEAR(exponential(x) / std::exp(x), 1.0, 4.5e-16) << x;
  EXPECT_EQ(exponential(0.0), 1.0);
  EXPECT_LT(exponential(-1e300), 4e-308);
  EXPECT_TRUE(std::isnan(exponential(std::nan(""))));
}

using Logits = std::vector<float>;

Logits random_logits(std::size_t count, unsigned seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  Logits logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

struct Pair {
  SoftmaxSum reference, candidate;
};

// Both rows in strips of `strip` tokens.
Pair in_strips(const Logits& reference, const Logits& candidate, std::size_t strip,
               std::size_t correct) {
  Pair pair;
  pair.reference.correct = reference[correct];
  pair.candidate.correct = candidate[correct];
  std::vector<double> exponentials(strip), others(strip);
  for (std::size_t first = 0; first < reference.size(); first += strip) {
    const std::size_t count = std::min(strip, reference.size() - first);
    const std::span<const float> r = std::span(reference).subspan(first, count);
    const std::span<const float> c = std::span(candidate).subspan(first, count);
    const std::span<double> e = std::span(exponentials).first(count);
    const auto token = static_cast<Index>(first);
    const double shrunk = add_strip(r, token, pair.reference, e);
    add_strip(c, token, pair.candidate, std::span(others).first(count));
    pair.candidate.crossed = pair.candidate.crossed * shrunk + crossed_strip(e, r, c);
  }
  return pair;
}

Prediction by_definition(const Logits& reference, const Logits& candidate, std::size_t correct) {
  Distribution p(reference.size()), q(candidate.size());
  p.set(reference);
  q.set(candidate);
  return compare(p, q, static_cast<std::int32_t>(correct));
}

// Every term is at most |ln p| or |r - l| < 60 times p, and n terms in double are summed to
// n / 16 + 16 roundings of 2^-53: 60 * 340 * 2^-53 = 2.3e-12 at worst, a few 1e-15 as a rule.
TEST(SoftmaxSum, IsTheDefinitionWhateverTheStrips) {
  const Logits reference = random_logits(5003, 1, 4.0f);
  Logits candidate = random_logits(5003, 2, 0.3f);
  for (std::size_t v = 0; v < candidate.size(); ++v) candidate[v] += reference[v] + 7.0f;
  const Prediction expected = by_definition(reference, candidate, 4999);
  for (const std::size_t strip : {1u, 7u, 64u, 1024u, 5003u}) {
    const Pair pair = in_strips(reference, candidate, strip, 4999);
    const Prediction found = compare(pair.reference, pair.candidate);
    EXPECT_NEAR(found.kl, expected.kl, 2.3e-12) << strip;
    EXPECT_NEAR(found.nll, expected.nll, 2.3e-12) << strip;
    EXPECT_NEAR(found.delta_p, expected.delta_p, 2.3e-12) << strip;
    EXPECT_EQ(found.top1, expected.top1) << strip;
    EXPECT_NEAR(compare(pair.reference, pair.reference).nll,
                by_definition(reference, reference, 4999).nll, 2.3e-12);
  }
}

// By hand: p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4). KL = 1/2 ln 2 + 1/4 ln(1/2) = 1/4 ln 2; logits
// are natural logarithms rounded to fp32, so to 2^-24.
TEST(SoftmaxSum, MatchesAHandCalculation) {
  const float half = std::log(0.5f), quarter = std::log(0.25f);
  const Pair pair = in_strips({half, quarter, quarter}, {quarter, half, quarter}, 2, 1);
  const Prediction result = compare(pair.reference, pair.candidate);
  EXPECT_NEAR(result.kl, 0.25 * std::log(2.0), 1e-7);
  EXPECT_NEAR(result.nll, std::log(2.0), 1e-7);
  EXPECT_NEAR(result.delta_p, 0.25, 1e-7);
  EXPECT_FALSE(result.top1);
}

TEST(SoftmaxSum, FindsNothingBetweenARowAndItself) {
  const Logits logits = random_logits(3001, 3, 6.0f);
  const Pair pair = in_strips(logits, logits, 1024, 7);
  const Prediction result = compare(pair.reference, pair.candidate);
  EXPECT_EQ(result.kl, 0.0);
  EXPECT_EQ(result.delta_p, 0.0);
  EXPECT_TRUE(result.top1);
}

#ifdef CALQUE_AVX512_COPY
TEST(StripLoops, GiveTheSameBitsInBothCopies) {
  if (!uses_avx512()) GTEST_SKIP() << "no AVX-512 here";
  const StripLoops& wide = avx512::compiled_strip_loops();
  const StripLoops& common = compiled_strip_loops();
  const Logits reference = random_logits(1003, 5, 3.0f), candidate = random_logits(1003, 6, 3.0f);
  std::vector<double> of_wide(1003), of_common(1003);
  const double largest = common.largest(reference);
  EXPECT_EQ(wide.largest(reference), common.largest(reference));
  EXPECT_EQ(wide.exponentials(reference, largest, of_wide),
            common.exponentials(reference, largest, of_common));
  EXPECT_EQ(of_wide, of_common);
  EXPECT_EQ(wide.crossed(of_wide, reference, candidate),
            common.crossed(of_common, reference, candidate));
}
#endif

TEST(SoftmaxSum, TakesTheFirstOfEqualLogits) {
  Logits logits(40, -1.0f);
  logits[5] = logits[17] = logits[39] = 3.0f;
  for (const std::size_t strip : {4u, 16u, 40u})
    EXPECT_EQ(in_strips(logits, logits, strip, 0).reference.arg_max, 5) << strip;
}

TEST(SoftmaxSum, SurvivesLargeLogitsAndKeepsNotANumbers) {
  const Logits large{1000.0f, 1000.0f, -1000.0f};
  Pair pair = in_strips(large, large, 1, 2);
  // Differences of numbers near 1000 and 2000: a few units in the last place, 2.3e-13 each.
  EXPECT_NEAR(compare(pair.reference, pair.reference).nll, 2000 + std::log(2.0), 1e-12);
  const Logits broken{1.0f, std::numeric_limits<float>::quiet_NaN(), 2.0f};
  pair = in_strips(large, broken, 2, 0);
  EXPECT_TRUE(std::isnan(compare(pair.reference, pair.candidate).kl));
  EXPECT_TRUE(std::isnan(compare(pair.reference, pair.candidate).nll));
}

// The distributions over the tokens that are left: a token of probability 0 in the reference adds
// 0 ln 0 = 0 to the divergence, whatever the candidate makes of it.
TEST(SoftmaxSum, CountsNothingForTokensThatTheReferenceNeverSays) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  const Logits reference = random_logits(700, 3, 3.0f);
  const Logits candidate = random_logits(700, 4, 3.0f);
  Logits with_never, candidate_never;
  for (std::size_t v = 0; v < 700; ++v) {
    for (std::size_t copies = v < 64 || v % 5 == 0 ? 2 : 0; copies > 0; --copies) {
      with_never.push_back(kNever);
      candidate_never.push_back(kNever);
    }
    with_never.push_back(reference[v]);
    candidate_never.push_back(candidate[v]);
  }
  const std::size_t correct = with_never.size() - 1;
  const Prediction expected = by_definition(reference, candidate, 699);
  for (const std::size_t strip : {1u, 16u, 64u, 1024u}) {
    const Pair pair = in_strips(with_never, candidate_never, strip, correct);
    EXPECT_TRUE(is_distribution(pair.reference));
    EXPECT_TRUE(is_distribution(pair.candidate));
    const Prediction found = compare(pair.reference, pair.candidate);
    EXPECT_NEAR(found.kl, expected.kl, 3e-12) << strip;
    EXPECT_NEAR(found.nll, expected.nll, 3e-12) << strip;
    const Prediction defined = by_definition(with_never, candidate_never, correct);
    EXPECT_NEAR(defined.kl, expected.kl, 3e-12);
  }
  // The candidate says it with e^-20 or so, and has that much less for the others.
  Logits rarely = candidate_never;
  for (float& logit : rarely)
    if (logit == kNever) logit = -20.0f;
  EXPECT_TRUE(std::isfinite(compare(in_strips(with_never, rarely, 64, correct).reference,
                                    in_strips(with_never, rarely, 64, correct).candidate)
                                .kl));
}

TEST(SoftmaxSum, KnowsWhatIsNoDistribution) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto of = [](float logit, bool all) {
    Logits logits = random_logits(40, 5, 1.0f);
    logits[7] = logit;
    if (all) logits.assign(40, logit);
    return in_strips(logits, logits, 16, 3).reference;
  };
  EXPECT_TRUE(is_distribution(of(0.0f, false)));
  EXPECT_TRUE(is_distribution(of(-kInfinity, false)));
  EXPECT_FALSE(is_distribution(of(kInfinity, false)));
  EXPECT_FALSE(is_distribution(of(std::numeric_limits<float>::quiet_NaN(), false)));
  EXPECT_FALSE(is_distribution(of(std::numeric_limits<float>::quiet_NaN(), true)));
  EXPECT_FALSE(is_distribution(of(-kInfinity, true)));
}

}  // namespace
}  // namespace calque::eval
