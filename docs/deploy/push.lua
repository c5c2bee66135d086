-- Orthanc pushes each series of MR to the node when nothing of it has come for StableAge seconds.
function OnStableSeries(id, tags, metadata)
  if tags["Modality"] == "MR" then
    local order = { Resources = { id }, Asynchronous = true, StorageCommitment = true }
    RestApiPost("/modalities/medseg/store", DumpJson(order, true))
  end
end
