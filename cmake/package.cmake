# What `make package` makes by CPack: a tar and a .deb with the static program, its manual page and completions, and the licences of what
# is linked into it.
if(NOT TARGET tritllm_static)
  return()
endif()

include(GNUInstallDirs)
set(CPACK_GENERATOR TGZ DEB)
set(CPACK_PACKAGE_NAME tritllm)
set(CPACK_PACKAGE_VENDOR tritllm)
set(CPACK_PACKAGE_CONTACT "the authors of tritllm <tritllm@example.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "balanced ternary language models: quantise them, run them")
set(CPACK_PACKAGE_DESCRIPTION "Turns the matrices of language models into balanced ternary numbers, and runs such models on the CPU.")
set(CPACK_PACKAGE_FILE_NAME tritllm-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/package)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_INSTALL_CMAKE_PROJECTS "${PROJECT_BINARY_DIR};tritllm;texts;/" "${PROJECT_BINARY_DIR};tritllm;package;/")

# The Debian packages whose archives are linked in, the C library and the C++ runtime among them.
foreach(package libc6-dev libstdc++-12-dev libpcre2-dev libutf8proc-dev libxxhash-dev libedit-dev libncurses-dev libbsd-dev libmd-dev
        libfmt-dev nlohmann-json3-dev libcli11-dev libboost1.81-dev libssl-dev libjs-marked libjs-highlight.js libjs-katex fonts-katex)
  install(FILES /usr/share/doc/${package}/copyright DESTINATION ${CMAKE_INSTALL_DOCDIR}/linked RENAME ${package}.copyright
    COMPONENT package EXCLUDE_FROM_ALL)
endforeach()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright COMPONENT package EXCLUDE_FROM_ALL)
include(CPack)
