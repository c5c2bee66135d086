// Settings of an OHIF viewer that is served by medseg_nca: its images and its models are on the
// server that it came from. It takes the place of the file of this name in the build.

// The MONAI Label panel keeps the address of its server in a cookie, and would take port 8000.
document.cookie = `MONAILABEL_SERVER_URL=${encodeURIComponent(`${location.origin}/`)}; path=/ohif; SameSite=Strict`;

window.config = {
  routerBasename: "/ohif/",
  showStudyList: true,
  extensions: [],
  modes: [],
  showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: true,
  showLoadingIndicator: true,
  // A volume is drawn only where its planes are evenly spaced.
  strictZSpacingForVolumeViewport: true,
  useSharedArrayBuffer: "FALSE",
  defaultDataSourceName: "dicomweb",
  dataSources: [
    {
      namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
      sourceName: "dicomweb",
      configuration: {
        friendlyName: "PACS",
        name: "PACS",
        wadoUriRoot: "/proxy/dicom/wado",
        qidoRoot: "/proxy/dicom/qido",
        wadoRoot: "/proxy/dicom/wado",
        qidoSupportsIncludeField: true,
        supportsReject: false,
        imageRendering: "wadors",
        thumbnailRendering: "wadors",
        enableStudyLazyLoad: true,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        dicomUploadEnabled: false,
        bulkDataURI: { enabled: true },
      },
    },
  ],
};

// Whoever has to log in does it on our page first, and comes back here.
fetch("/page/about", { cache: "no-store" })
  .then((answer) => answer.json())
  .then((about) => {
    if (!about.users || about.user !== null) return;
    location.replace(`/?then=${encodeURIComponent(location.pathname + location.search)}`);
  })
  .catch(() => {});
