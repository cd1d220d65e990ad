// The texts of calibration_data that come with the program.
#include "calque/job/builtin_texts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "calque/core/error.h"

namespace calque::job {
namespace {

double parts_of(const std::vector<text::TextSource>& sources) {
  return std::accumulate(sources.begin(), sources.end(), 0.0,
                         [](double sum, const text::TextSource& s) { return sum + s.part; });
}

TEST(BuiltinTexts, AreOnePartWhateverIsMeant) {
  EXPECT_NEAR(parts_of(builtin_sources()), 1, 1e-12);
  std::size_t files = 0;
  for (const std::string& kind : builtin_kinds()) {
    const auto sources = builtin_sources("builtin:" + kind);
    EXPECT_NEAR(parts_of(sources), 1, 1e-12) << kind;
    files += sources.size();
  }
  EXPECT_EQ(files, builtin_sources().size());
}

TEST(BuiltinTexts, AreAllFilesOfTheFolderButTheHeldOutOneAndItsReadme) {
  std::set<std::string> there;
  for (const auto& entry : std::filesystem::directory_iterator(builtin_folder()))
    if (entry.is_regular_file()) there.insert(entry.path().filename().string());
  for (const text::TextSource& source : builtin_sources())
    EXPECT_EQ(there.erase(source.path.filename().string()), 1U) << source.path;
  EXPECT_THAT(there,
              ::testing::ElementsAre("README.md", builtin_heldout_text().filename().string()));
}

// Each text as documents of valid Unicode, none of them much longer than the rows that are cut
// from them, so that rows of few samples come from many documents.
TEST(BuiltinTexts, AreManyDocuments) {
  for (const text::TextSource& source : builtin_sources("builtin:mathematics"))
    EXPECT_GT(text::texts_of(source, {}).size(), 300U);
  for (const text::TextSource& source : builtin_sources("builtin:languages")) {
    const auto texts = text::texts_of(source, {});
    EXPECT_GT(texts.size(), 30U);
    for (const std::string& text : texts) EXPECT_EQ(text.find("\uFFFD"), std::string::npos);
  }
  EXPECT_THAT(text::texts_of(builtin_sources("builtin:dialogues").at(0), {}),
              ::testing::Contains(::testing::StartsWith("User: ")));
}

TEST(BuiltinTexts, KnowTheirWord) {
  EXPECT_TRUE(is_builtin("builtin") && is_builtin("builtin:prose") && is_builtin("builtin:x"));
  EXPECT_FALSE(is_builtin("builtins") || is_builtin("prose") || is_builtin(""));
  EXPECT_THROW(builtin_sources("builtin:"), Error);
}

}  // namespace
}  // namespace calque::job
