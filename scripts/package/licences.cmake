# Part of `cmake --install --component libraries`: the licence of each library in lib/calque, as Debian's package of it
# tells it, as share/doc/calque/licences/PACKAGE.
set(root $ENV{DESTDIR}${CMAKE_INSTALL_PREFIX})
file(GLOB libraries ${root}/lib/calque/*.so.*)
foreach(library ${libraries})
  if(IS_SYMLINK ${library})
    continue()
  endif()
  get_filename_component(name ${library} NAME)
  execute_process(COMMAND dpkg-query -S *-linux-gnu*/${name} OUTPUT_VARIABLE owner ERROR_QUIET)
  string(REGEX MATCH "^[^:]+" package "${owner}")
  if(NOT EXISTS /usr/share/doc/${package}/copyright)
    message(FATAL_ERROR "No Debian package tells the licence of ${library}, which would be in the package; "
                        "build packages on Debian, or install --component program alone")
  endif()
  configure_file(/usr/share/doc/${package}/copyright ${root}/share/doc/calque/licences/${package} COPYONLY)
endforeach()
