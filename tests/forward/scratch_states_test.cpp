#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include "calque/forward/block_runner.h"
#include "forward/cpu/states.h"
#include "forward/runner_fixture.h"
#include "io/io_test_support.h"
#include "support/temp_folder.h"

// Hidden states and what is kept between a block's stages, in files instead of memory.

namespace calque::forward {
namespace {

class FamilyInFiles : public ::testing::TestWithParam<std::string> {
 protected:
  RunnerOptions in_files(ComputeDType dtype) {
    return {.dtype = dtype, .scratch = std::make_shared<io::ScratchSpace>(0, folder_.path())};
  }

  model::ModelFolder model{model::family_folder(GetParam())};
  Reference reference{model::family_folder(GetParam())};
  testing::TempFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(Families, FamilyInFiles, ::testing::ValuesIn(model::family_folders()));

TEST_P(FamilyInFiles, HasTheSameBitsAsInMemory) {
  for (const ComputeDType dtype : {ComputeDType::kFloat32, ComputeDType::kBFloat16}) {
    RecordingObserver seen_in_memory, seen_in_files;
    const Matrix<float> memory_RV =
        logits_of(model, reference.tokens, {.dtype = dtype}, &seen_in_memory);
    const RunnerOptions options = in_files(dtype);
    EXPECT_TRUE(same_bits(memory_RV, logits_of(model, reference.tokens, options, &seen_in_files)));
    EXPECT_TRUE(same_bits(memory_RV, logits_of(model, reference.tokens, options)));
    EXPECT_EQ(seen_in_memory.events(), seen_in_files.events());
    for (const model::SiteSpec& site : model.family.blocks.front().sites)
      EXPECT_EQ(seen_in_memory.rows(site.name, site.expert),
                seen_in_files.rows(site.name, site.expert));
    EXPECT_EQ(options.scratch->peak_ram_bytes(), 0u);
    EXPECT_GT(options.scratch->peak_file_bytes(), 0u);
  }
}

// Resident bytes of mappings of files that lived in `folder`.
long resident_bytes(const std::filesystem::path& folder) {
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  long total = 0;
  for (std::string line; std::getline(maps, line);) {
    unsigned long from = 0, to = 0;
    long kib = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2)
      inside = line.find(folder.string() + "/") != std::string::npos;
    else if (inside && std::sscanf(line.c_str(), "Rss: %ld kB", &kib) == 1)
      total += kib * 1024;
  }
  return total;
}

TEST_P(FamilyInFiles, NothingStaysInMemoryBetweenStages) {
  const RunnerOptions options = in_files(ComputeDType::kFloat32);
  const auto runner = make_block_runner(model.config, options);
  const auto hidden = embedded(*runner, model, reference.tokens);
  EXPECT_EQ(resident_bytes(folder_.path()), 0);
  const model::BlockSpec& block = model.family.blocks.front();
  model::BlockWeights weights = load_block(model.source, block);
  RecordingObserver observer([&](const model::SiteSpec& site, model::BlockWeights&) {
    EXPECT_EQ(resident_bytes(folder_.path()), 0) << site.name << " " << site.expert;
  });
  runner->run_block(block, weights, *hidden, &observer);
  EXPECT_EQ(resident_bytes(folder_.path()), 0);
  runner->run_block(block, weights, *hidden, nullptr);
  EXPECT_EQ(resident_bytes(folder_.path()), 0);
}

TEST(RunnerInFiles, TellsAFullDisk) {
  const model::ModelFolder model(model::family_folder("llama"));
  const Tokens tokens = Reference(model::family_folder("llama")).tokens;
  const testing::TempFolder folder;
  const auto runner = make_block_runner(
      model.config, {.scratch = std::make_shared<io::ScratchSpace>(0, folder.path())});
  const Matrix<float> embedding_VH = model.source.load(model.family.embedding.name);
  const testing::FileSizeLimit limit(4096);
  EXPECT_THAT(
      model::error_of([&] { runner->embed(tokens.ids_BS, tokens.lengths_B, embedding_VH); }),
      ::testing::HasSubstr(folder.path().string()));
}

class LastBlockObserver : public RecordingObserver {
 public:
  using RecordingObserver::RecordingObserver;
  bool wants_output() const override { return false; }
};

TEST_P(FamilyInFiles, ShowsAllSitesOfABlockWhoseOutputIsNotWanted) {
  const model::BlockSpec& block = model.family.blocks.front();
  const auto run = [&](BlockObserver& observer) {
    const auto runner = make_block_runner(model.config, {});
    const auto hidden = embedded(*runner, model, reference.tokens);
    model::BlockWeights weights = load_block(model.source, block);
    runner->run_block(block, weights, *hidden, &observer);
  };
  RecordingObserver whole;
  LastBlockObserver last;
  run(whole);
  run(last);
  EXPECT_EQ(whole.events(), last.events());
  for (const model::SiteSpec& site : block.sites)
    EXPECT_EQ(whole.rows(site.name, site.expert), last.rows(site.name, site.expert));
}

// As a mixer leaves them for later blocks: every sequence's rows under a name.
TEST(KeptRows, GoWithTheHiddenStates) {
  const model::ModelFolder model(model::family_folder("llama"));
  const Reference reference{model::family_folder("llama")};
  const auto runner = make_block_runner(model.config, {});
  const auto hidden = embedded(*runner, model, reference.tokens);
  auto& states = dynamic_cast<CpuStates&>(*hidden);
  const MatrixView<float> keys_TK = states.kept({"keys of layer 3", 5}).all();
  for (Index i = 0; i < keys_TK.size(); ++i) keys_TK.data()[i] = static_cast<float>(i);
  EXPECT_EQ(keys_TK.rows(), states.all_TH().rows());

  std::vector<std::byte> saved;
  runner->save_states(*hidden, [&](std::span<const std::byte> bytes) {
    saved.insert(saved.end(), bytes.begin(), bytes.end());
  });
  auto next = saved.begin();
  const auto loaded = runner->load_states(reference.tokens.lengths_B, states.all_TH().cols(),
                                          [&](std::span<std::byte> bytes) {
                                            std::copy_n(next, bytes.size(), bytes.begin());
                                            next += static_cast<std::ptrdiff_t>(bytes.size());
                                          });
  EXPECT_EQ(next, saved.end());
  auto& again = dynamic_cast<CpuStates&>(*loaded);
  EXPECT_TRUE(same_bits(again.all_TH(), states.all_TH()));
  EXPECT_TRUE(same_bits(again.kept({"keys of layer 3", 5}).all(), keys_TK));
}

}  // namespace
}  // namespace calque::forward
