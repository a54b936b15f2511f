// Page of share links: connects its dialog.
import { startDialog } from "./dialog.js";

startDialog();
