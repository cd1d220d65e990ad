#include "publish/model_card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/io/file.h"
#include "support/temp_folder.h"

namespace calque::publish {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

formats::TensorPlan tensor(const std::string& name, int bits, bool sym = true) {
  formats::TensorPlan plan;
  plan.tensor.name = name;
  plan.stored_as = bits == 0 ? "BF16" : "GPTQ " + std::to_string(bits) + " bit g128";
  plan.bytes = 1'500'000;
  if (bits == 0) return plan;
  plan.grid = quant::Grid{};
  plan.grid->bits = bits;
  plan.grid->offset_kind = sym ? OffsetKind::kMiddleCode : OffsetKind::kZeroPoint;
  return plan;
}

class ModelCard : public ::testing::Test {
 protected:
  ModelCard() {
    fs::create_directories(folder_ / "Tiny-1B");
    fs::create_directories(folder_ / "Tiny-1B-Int4");
    job_.model.path = folder_ / "Tiny-1B";
    record::ArtifactReport artifact;
    artifact.plan.request.format = "gptq";
    artifact.plan.request.path = folder_ / "Tiny-1B-Int4";
    artifact.plan.tensors = {tensor("a", 4), tensor("b", 4), tensor("c", 0)};
    artifact.bits_per_weight = 4.5;
    artifact.file_bytes = 4'500'000;
    report_.artifacts = {artifact};
    report_.source_bytes = 12'000'000;
  }

  std::string card(const std::string& yaml = "name: x\n") const {
    return model_card(report_, 0, job_, yaml);
  }

  TempFolder folder_;
  job::Job job_;
  record::Report report_;
};

TEST_F(ModelCard, BeginsWithWhatHubsRead) {
  job_.publish.base_model = "org/Tiny-1B";
  job_.publish.quantized_by = "me: \"x\"";
  EXPECT_THAT(card(),
              StartsWith("---\nbase_model: \"org/Tiny-1B\"\nbase_model_relation: quantized\n"
                         "library_name: transformers\npipeline_tag: text-generation\ntags:\n"
                         "- gptq\n- calque\n- 4-bit\nquantized_by: \"me: \\\"x\\\"\"\n---\n"));
}

TEST_F(ModelCard, NamesTheSourceFolderIfNoBaseModelIsGiven) {
  EXPECT_THAT(card(), HasSubstr("base_model: \"Tiny-1B\"\n"));
  EXPECT_THAT(card(), Not(HasSubstr("quantized_by")));
}

TEST_F(ModelCard, TakesTheLicenceOfTheSourcesCard) {
  io::write_file(folder_ / "Tiny-1B/README.md",
                 "---\ntags: [x]\nlicense: 'apache-2.0'\n---\nlicense: no\n");
  EXPECT_THAT(card(), HasSubstr("\nlicense: apache-2.0\n"));
  EXPECT_THAT(card(), HasSubstr("## License\n\napache-2.0, the same as the original.\n"));
}

TEST_F(ModelCard, ReadsTheSourcesCardAsYaml) {
  io::write_file(folder_ / "Tiny-1B/README.md", "---\nlicense: mit # as the base model\n---\n");
  EXPECT_THAT(card(), HasSubstr("\nlicense: mit\n"));
  for (const char* list : {"license: [apache-2.0, mit]", "license:\n- apache-2.0\n- mit"}) {
    io::write_file(folder_ / "Tiny-1B/README.md", std::string("---\n") + list + "\n---\n");
    EXPECT_THAT(card(), HasSubstr("\nlicense:\n- apache-2.0\n- mit\n"));
    EXPECT_EQ(license_of(folder_ / "Tiny-1B").text(), "apache-2.0, mit");
  }
  io::write_file(folder_ / "Tiny-1B/README.md",
                 "---\nlicense: other\nlicense_name: my terms\nlicense_link: LICENSE.txt\n---\n");
  EXPECT_THAT(card(), HasSubstr("\nlicense: other\nlicense_name: \"my terms\"\n"
                                "license_link: LICENSE.txt\n"));
  io::write_file(folder_ / "Tiny-1B/README.md", "---\nlicense: [mit\n---\n");  // no YAML
  EXPECT_THAT(card(), HasSubstr("states no license"));
}

TEST_F(ModelCard, PointsToALicenceFile) {
  io::write_file(folder_ / "Tiny-1B/LICENSE", "terms");
  EXPECT_THAT(card(), HasSubstr("license: other\nlicense_name: see-license-file\n"
                                "license_link: LICENSE\n"));
}

TEST_F(ModelCard, SaysThatThereIsNoLicence) {
  io::write_file(folder_ / "Tiny-1B/README.md", "no front matter\nlicense: mit\n");
  EXPECT_THAT(card(), Not(HasSubstr("license:")));
  EXPECT_THAT(card(), HasSubstr("states no license"));
}

TEST_F(ModelCard, TakesTheLicenceOfTheJob) {
  job_.publish.license = "mit";
  EXPECT_THAT(card(), HasSubstr("license: \"mit\"\n"));
}

TEST_F(ModelCard, ShowsWhatWasMeasured) {
  EXPECT_THAT(card(), HasSubstr("Not measured when this was made."));
  record::EvaluationReport evaluation;
  evaluation.manifest.sources = {{.path = "heldout.txt"}};
  evaluation.models.resize(2);
  evaluation.models[0].kind = record::ModelKind::kReference;
  evaluation.models[0].perplexity_hf = {10.5, 0.25, 4088};
  evaluation.models[1].perplexity_hf = {11.25, 0.5, 4088};
  evaluation.models[1].divergence.kl_mean = 0.01234;
  evaluation.models[1].divergence.kl_mean_uncertainty = 0.001;
  evaluation.models[1].divergence.top1_agreement = 0.9512;
  report_.evaluations = {evaluation};
  EXPECT_THAT(card(), HasSubstr("| perplexity | 10.5000 ± 0.2500 | 11.2500 ± 0.5000 |"));
  EXPECT_THAT(card(), HasSubstr("| KL divergence, mean (nats) | 0 | 0.01234 ± 0.00100 |"));
  EXPECT_THAT(card(), HasSubstr("| same most likely token | 100 % | 95.12 % |"));
  EXPECT_THAT(card(), HasSubstr("4088 predictions on `heldout.txt`"));
}

TEST_F(ModelCard, CountsTensorsByTheirStorage) {
  EXPECT_THAT(card(), HasSubstr("| BF16 | 1 | 1.50 MB |\n| GPTQ 4 bit g128 | 2 | 3.00 MB |\n"));
}

TEST_F(ModelCard, IsHonestAboutBitsThatRuntimesDoNotLoad) {
  EXPECT_THAT(card(), HasSubstr("vllm serve ./Tiny-1B-Int4\n"));
  EXPECT_THAT(card(), HasSubstr("sglang.launch_server --model-path ./Tiny-1B-Int4\n"));
  EXPECT_THAT(card(), Not(HasSubstr("Note:")));
  report_.artifacts[0].plan.tensors.push_back(tensor("d", 3));
  EXPECT_THAT(card(), HasSubstr("this one has 3, 4 bits, so they refuse it"));
  report_.artifacts[0].plan.tensors = {tensor("a", 4, false)};
  EXPECT_THAT(card(), HasSubstr("this one has 4 bits and zero points"));
  report_.artifacts[0].plan.request.format = "awq";
  EXPECT_THAT(card(), Not(HasSubstr("Note:")));
}

TEST_F(ModelCard, HoldsTheJobWithoutLocalFolders) {
  const std::string text = card("model:\n  path: \"/home/me/models/Tiny-1B\"\n");
  EXPECT_THAT(text, HasSubstr("```yaml\nmodel:\n  path: \"Tiny-1B\"\n```"));
  EXPECT_THAT(text, Not(HasSubstr("/home/me")));
  EXPECT_THAT(text, Not(HasSubstr(folder_.path().string())));
}

TEST(LocalPaths, AreCutDownToTheirLastPart) {
  EXPECT_EQ(without_local_paths("path: /a/b c/d.txt\nn: 1\n"), "path: d.txt\nn: 1\n");
  EXPECT_EQ(without_local_paths("- {path: /a/b, x: '/c/d e/f'}"), "- {path: b, x: 'f'}");
  EXPECT_EQ(without_local_paths("[\"/a/\\\"b/c\", /d/]"), "[\"c\", d]");
  EXPECT_EQ(without_local_paths("/tmp/x/y"), "y");
  EXPECT_EQ(without_local_paths("p: /"), "p: .");
}

TEST(LocalPaths, LeaveOtherSlashesAlone) {
  const std::string text = "base_model: org/name\nmatch: 're:a/b'\nratio: 1/2\n";
  EXPECT_EQ(without_local_paths(text), text);
}

}  // namespace
}  // namespace calque::publish
