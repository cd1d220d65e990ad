#include "calque/forward/token_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "forward/runner_fixture.h"

namespace calque::forward {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Matrix<std::int32_t> ids_of(std::vector<std::vector<std::int32_t>> rows) {
  Matrix<std::int32_t> ids_BS(static_cast<Index>(rows.size()),
                              static_cast<Index>(rows.front().size()));
  for (Index b = 0; b < ids_BS.rows(); ++b)
    std::copy(rows[static_cast<std::size_t>(b)].begin(), rows[static_cast<std::size_t>(b)].end(),
              ids_BS.row(b));
  return ids_BS;
}

// By hand. The 99 is padding.
TEST(TokenRows, CountsTheIdsThatOccur) {
  const Matrix<std::int32_t> ids_BS = ids_of({{7, 2, 7, 9}, {2, 0, 99, 99}});
  const TokenRows tokens = token_rows(ids_BS, std::vector<Index>{4, 2}, 10);
  EXPECT_THAT(tokens.rows_U, ElementsAre(0, 2, 7, 9));
  EXPECT_TRUE(std::equal(tokens.ids_BS.data(), tokens.ids_BS.data() + 8,
                         ids_of({{2, 1, 2, 3}, {1, 0, 0, 0}}).data()));
}

TEST(TokenRows, RefusesIdsOutsideTheVocabulary) {
  for (const std::int32_t wrong : {-1, 10})
    EXPECT_THAT(model::error_of([&] {
                  token_rows(ids_of({{1, 2, 3}, {4, wrong, 5}}), std::vector<Index>{3, 2}, 10);
                }),
                HasSubstr("token id " + std::to_string(wrong) +
                          " (sequence 1, position 1) is outside the model's vocabulary of 10"));
}

TEST(TokenRows, NoTokensNeedNoRows) {
  const TokenRows tokens = token_rows(ids_of({{99, 99}}), std::vector<Index>{0}, 10);
  EXPECT_TRUE(tokens.rows_U.empty());
}

class FewRows : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, FewRows, ::testing::Values("llama", "gemma2"));

TEST_P(FewRows, EmbedAsTheWholeEmbeddingDoes) {
  const model::ModelFolder model(model::family_folder(GetParam()));
  const Tokens tokens = Reference(model::family_folder(GetParam())).tokens;
  const model::TensorSpec& embedding = model.family.embedding;
  const auto runner = make_block_runner(model.config, {});
  const auto whole =
      runner->embed(tokens.ids_BS, tokens.lengths_B, model.source.load(embedding.name));
  const auto some =
      embed_tokens(*runner, model.source, model.family, tokens.ids_BS, tokens.lengths_B);
  const auto head = runner->make_head(model.source.load(model.family.final_norm.name),
                                      model.source.load(model.family.head().name));
  ASSERT_EQ(some->sequences(), whole->sequences());
  for (Index b = 0; b < whole->sequences(); ++b) {
    Matrix<float> expected_TV(whole->length(b), model.config.vocab_size);
    Matrix<float> logits_TV(whole->length(b), model.config.vocab_size);
    head->logits(*whole, b, 0, expected_TV);
    head->logits(*some, b, 0, logits_TV);
    EXPECT_TRUE(same_bits(logits_TV, expected_TV));
  }
}

}  // namespace
}  // namespace calque::forward
