#include "calque/io/file.h"
#include "calque/report/report.h"
#include "report/pages.h"

namespace calque::report {

std::filesystem::path write_report(const std::filesystem::path& folder,
                                   const std::filesystem::path& out) {
  const Page page = kind_of(folder) == FolderKind::kSweep ? sweep_page(load_sweep(folder))
                                                          : run_page(load_run(folder));
  const std::filesystem::path target = out.empty() ? folder / "report" : out;
  for (const Figure& figure : page.all_figures()) {
    io::write_file(target / (figure.name + ".svg"), figure.svg.file_text());
    io::write_file(target / (figure.name + ".csv"), io::csv_text(figure.data));
  }
  io::write_file(target / "index.html", page.text());
  return target / "index.html";
}

}  // namespace calque::report
